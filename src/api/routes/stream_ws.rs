//! `/v1/stream/ws`: the same stream over WebSocket.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query as Parameters, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::stream::{Next, StreamParameters, Watch, clock};
use crate::api::auth;
use crate::api::caller::Caller;
use crate::api::problem::{Problem, ProblemResponses, ProblemType};
use crate::api::service::Api;
use crate::api::token_error::TokenError;
use crate::live::Filter;
use crate::store::journal::Position;

/// Path of the endpoint, for the log.
const PATH: &str = "/v1/stream/ws";

/// Subprotocol of the stream.
const PROTOCOL: &str = "cns-events.v1";

/// Prefix of the subprotocol that carries a token: a browser cannot send headers.
const BEARER: &str = "bearer.";

/// Time for the first message, where the token is in it.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Size of a message of the client, in bytes: a token with many claims.
const MAX_MESSAGE_BYTES: usize = 32 * 1024;

/// Close codes of this protocol: the token, or what it asks for, is refused; there is no room.
const REFUSED: u16 = 4401;
const FULL: u16 = 4429;

/// First message of a client that sends its token so.
#[derive(Deserialize)]
struct Hello {
    token: String,
}

/// Events of the tenant as they are stored, over WebSocket
///
/// The client offers the subprotocol `cns-events.v1`. Its token is in the header `Authorization`, in a second subprotocol
/// `bearer.{token}`, or in the first message: `{"token": "…"}`. Each message is a JSON object with `event`, `id` and `data`, as
/// in the stream of Server-Sent Events.
#[utoipa::path(
    get, path = "/v1/stream/ws", operation_id = "stream_ws", tag = "stream", security(("token" = [])),
    params(StreamParameters),
    responses((status = 101, description = "The connection is a WebSocket"), ProblemResponses),
)]
pub(in crate::api) async fn events(
    State(api): State<Api>,
    headers: HeaderMap,
    parameters: Result<Parameters<StreamParameters>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let caller = match token(&headers) {
        Some(token) => Some(auth::verified(&api, Some(token))?),
        None if headers.contains_key(header::AUTHORIZATION) => {
            Some(auth::verified(&api, auth::bearer(&headers)?.into())?)
        }
        None => None,
    };
    if let Some(caller) = &caller
        && let Err(response) = auth::check_rate(&api, caller)
    {
        return Ok(response);
    }
    let Parameters(mut parameters) = parameters?;
    let tenant = parameters.tenant.take();
    let (filter, after) = parameters.read(&headers)?;
    let caller = caller.map(|caller| reading_as(caller, tenant.as_deref())).transpose()?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(
            ProblemType::InvalidParameter,
            format!("{}; this endpoint is a WebSocket", rejection.body_text()),
        )
    })?;
    let upgrade =
        upgrade.protocols([PROTOCOL]).max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    let caller = caller.map_or(Token::Awaited { tenant }, Token::Verified);
    Ok(upgrade
        .on_upgrade(async move |socket| serve(api, socket, caller, filter, after).await)
        .into_response())
}

/// Token of a connection.
enum Token {
    /// It is in the headers.
    Verified(Caller),
    /// It will be in the first message.
    Awaited { tenant: Option<String> },
}

/// Returns the caller that reads as the tenant that the query names; support staff has to name one.
fn reading_as(caller: Caller, tenant: Option<&str>) -> Result<Caller, Problem> {
    let caller = match tenant {
        Some(tenant) => caller.reading_as(tenant, PATH)?,
        None => caller,
    };
    caller.tenant_and_scope()?;
    Ok(caller)
}

/// Returns the token in the subprotocols that the client offers.
fn token(headers: &HeaderMap) -> Option<&str> {
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|list| list.split(',')).find_map(|protocol| protocol.trim().strip_prefix(BEARER))
}

async fn serve(api: Api, mut socket: WebSocket, token: Token, filter: Filter, after: Option<Position>) {
    let caller = match token {
        Token::Verified(caller) => Ok(caller),
        Token::Awaited { tenant } => match first_message(&api, &mut socket).await {
            Ok(caller) => reading_as(caller, tenant.as_deref()),
            Err(reason) => return close(&mut socket, REFUSED, &reason.to_string()).await,
        },
    };
    let started = match caller {
        Ok(caller) => Watch::start(&api, &caller, filter, after, "ws").await,
        Err(problem) => Err(problem),
    };
    let mut watch = match started {
        Ok(watch) => watch,
        Err(problem) => {
            let refused = matches!(problem.kind(), ProblemType::Forbidden | ProblemType::InvalidParameter);
            return close(&mut socket, if refused { REFUSED } else { FULL }, problem.detail()).await;
        }
    };
    loop {
        let message = tokio::select! {
            next = watch.next() => match next {
                Next::Event(event, position) => {
                    let text = format!(r#"{{"event":"event","id":"{position}","data":{}}}"#, event.json);
                    Message::Text(text.into())
                }
                Next::Clock(position) => {
                    Message::Text(format!(r#"{{"event":"clock","id":"{position}","data":{}}}"#, clock()).into())
                }
                Next::Reset(reason, position) => {
                    let text = json!({ "event": "reset", "id": position.to_string(), "data": { "reason": reason } });
                    Message::Text(text.to_string().into())
                }
                Next::Ping => Message::Ping(Vec::new().into()),
                Next::End => return close(&mut socket, close_code::AWAY, "come back where you were").await,
            },
            received = socket.recv() => match received {
                // Pings are answered by the library; anything else is not of this protocol, and harmless.
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        // The connection's write timeout ends a client that takes nothing.
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Waits for the message with the token.
async fn first_message(api: &Api, socket: &mut WebSocket) -> Result<Caller, TokenError> {
    let received = tokio::time::timeout(TOKEN_TIMEOUT, socket.recv()).await;
    let Ok(Some(Ok(Message::Text(text)))) = received else { return Err(TokenError::Missing) };
    let hello: Hello = serde_json::from_str(&text).map_err(|_| TokenError::Missing)?;
    auth::verified(api, Some(&hello.token))
}

async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    // 123 bytes at most (RFC 6455, section 5.5).
    let reason: String = reason.chars().take(100).collect();
    let frame = CloseFrame { code, reason: reason.into() };
    let _ = socket.send(Message::Close(Some(frame))).await; // the client may have gone
}
