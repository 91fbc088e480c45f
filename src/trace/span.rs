//! The trace context of the active span, for the header that passes a trace from a producer to the worker.

use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, SpanId, TraceFlags, TraceId};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Returns the active span in W3C Trace Context format: the span of `tracing` if its OpenTelemetry layer is installed, else
/// OpenTelemetry's own.
pub(crate) fn traceparent() -> Option<String> {
    let traceparent_of = |context: &Context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| write(span.trace_id(), span.span_id(), span.trace_flags()))
    };
    traceparent_of(&tracing::Span::current().context()).or_else(|| traceparent_of(&Context::current()))
}

fn write(trace: TraceId, span: SpanId, flags: TraceFlags) -> String {
    format!("00-{trace}-{span}-{:02x}", flags.to_u8())
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn the_active_span_is_formatted_as_w3c_trace_context() {
        assert_eq!(traceparent(), None);
        let tracer = SdkTracerProvider::default().tracer("test");
        let subscriber =
            tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("work");
            let _entered = span.enter();
            let traceparent = traceparent().expect("a span is active");
            let parts: Vec<_> = traceparent.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
            let context = span.context();
            assert_eq!(parts[1], context.span().span_context().trace_id().to_string());
        });
    }
}
