//! Accounts: OPAQUE's two exchanges with a tracker, each two rounds on one stream, with Argon2 in between.

use p2p_proto::control;
use p2p_proto::id::RequestId;
use p2p_proto::name::UserName;
use p2p_proto::password::{
    CHANNEL_BINDING_LABEL, ChannelBinding, ClientLogin, ClientRegistration, Password, PasswordError,
};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Answer, Envelope, Reply, Request};
use quinn::Connection;
use rand_core::{OsRng, RngCore};

use super::{AskFailure, Inner, ask_round, open};
use crate::frame_stream::StreamPair;

/// Makes an account. The password never leaves this process.
pub(super) async fn register(
    inner: &Inner,
    connection: &Connection,
    user: UserName,
    password: control::Password,
) -> Result<Reply, AskFailure> {
    let (client, message) = ClientRegistration::start(&to_protocol(password)?)?;
    let start = Request::RegisterStart { user: user.clone(), message };
    two_rounds(inner, connection, start, move |response| {
        Ok(Request::RegisterFinish { record: client.finish(&user, response)? })
    })
    .await
}

/// Enrols this daemon's key under a user. Bound to this very connection: nobody between the two ends can use it.
pub(super) async fn login(
    inner: &Inner,
    connection: &Connection,
    user: UserName,
    password: control::Password,
) -> Result<Reply, AskFailure> {
    let mut binding: ChannelBinding = [0; 32];
    connection.export_keying_material(&mut binding, CHANNEL_BINDING_LABEL, b"").map_err(|_| AskFailure::Lost)?;
    let (client, message) = ClientLogin::start(&to_protocol(password)?)?;
    let start = Request::LoginStart { user: user.clone(), message };
    two_rounds(inner, connection, start, move |response| {
        Ok(Request::LoginFinish { proof: client.finish(&user, &binding, response)? })
    })
    .await
}

/// Asks `start`, makes the second request from the challenge that comes back, and gives the answer to that.
async fn two_rounds(
    inner: &Inner,
    connection: &Connection,
    start: Request,
    finish: impl FnOnce(&[u8]) -> Result<Request, PasswordError> + Send + 'static,
) -> Result<Reply, AskFailure> {
    let mut streams = open(connection).await?;
    let challenge = match round(&mut streams, start, false).await? {
        Ok(Answer::Challenge(challenge)) => challenge,
        Ok(_) => return Err(AskFailure::Breach("no challenge".to_owned())),
        Err(refusal) => {
            streams.complete();
            return Ok(Err(refusal));
        }
    };
    let turn = inner.stretchings.acquire().await.map_err(|_| AskFailure::Lost)?;
    let stretched = tokio::task::spawn_blocking(move || finish(&challenge)).await;
    drop(turn);
    let request =
        stretched.map_err(|_| AskFailure::Local(Reject::new(ErrorCode::INTERNAL, "key stretching failed")))??;
    let reply = round(&mut streams, request, true).await?;
    streams.complete();
    Ok(reply)
}

async fn round(streams: &mut StreamPair, request: Request, last: bool) -> Result<Reply, AskFailure> {
    let mut id = [0; RequestId::BYTES];
    OsRng.try_fill_bytes(&mut id).map_err(|error| {
        AskFailure::Local(Reject::new(ErrorCode::INTERNAL, format!("the system gives no random bytes: {error}")))
    })?;
    ask_round(streams, &Envelope { id: RequestId(id), request }, last).await
}

/// The password as the protocol takes it.
fn to_protocol(password: control::Password) -> Result<Password, AskFailure> {
    let text = String::from_utf8(password.as_bytes().to_vec())
        .map_err(|_| AskFailure::Local(Reject::new(ErrorCode::USAGE, "a password has to be text")))?;
    Ok(Password::new(text)?)
}

impl From<PasswordError> for AskFailure {
    fn from(error: PasswordError) -> AskFailure {
        match error {
            PasswordError::Refused => AskFailure::Local(Reject::new(ErrorCode::LOGIN_REFUSED, error.to_string())),
            PasswordError::Empty | PasswordError::TooLong => {
                AskFailure::Local(Reject::new(ErrorCode::USAGE, error.to_string()))
            }
            PasswordError::Malformed(_) => AskFailure::Breach(error.to_string()),
            PasswordError::Failed(_) => AskFailure::Local(Reject::new(ErrorCode::INTERNAL, error.to_string())),
        }
    }
}
