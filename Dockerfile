# syntax=docker/dockerfile:1
# The binary with its migrations inside it, CA certificates, and nothing else: no shell, no package manager, no root.
#
#   docker build -t cns-events --build-arg REVISION="$(git rev-parse --short=12 HEAD)" .
#   docker run --rm --read-only --cap-drop ALL -e AMQP_URL -e DATABASE_URL cns-events worker

# Not the slim one: the allocator is built with make.
FROM rust:1.95-bookworm AS chef
WORKDIR /build
# Large enough for every page size that Linux has on arm64; x86-64 has one only.
ARG TARGETARCH
RUN { [ "$TARGETARCH" != arm64 ] || printf '[env]\nJEMALLOC_SYS_WITH_LG_PAGE = "16"\n' >>"$CARGO_HOME/config.toml"; } && \
    cargo install cargo-chef --locked --version 0.1.73

# What is known of the dependencies: a layer that changes with Cargo.lock, and not with the source.
FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
COPY --from=plan /build/recipe.json recipe.json
RUN cargo chef cook --release --locked --bin cns-events --recipe-path recipe.json
COPY . .
# There is no repository in here to ask.
ARG REVISION=unknown
RUN CNS_EVENTS_REVISION="$REVISION" cargo build --release --locked --bin cns-events && \
    strip --strip-debug target/release/cns-events

# glibc, libgcc and the authorities that public servers are verified by; user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="cns-events" \
      org.opencontainers.image.description="Events from RabbitMQ, stored once in PostgreSQL" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /build/target/release/cns-events /usr/local/bin/cns-events
# Profiles are read from config/ here: mount them at /etc/cns-events/config.
WORKDIR /etc/cns-events
USER 65532:65532
# Metrics and health; the read API.
EXPOSE 9464 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/cns-events"]
CMD ["worker"]
