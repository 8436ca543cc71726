//! Accounts: OPAQUE's two exchanges with a tracker, each two rounds on one stream, with Argon2 in between.

use p2p_proto::control;
use p2p_proto::id::RequestId;
use p2p_proto::name::UserName;
use p2p_proto::password::{
    CHANNEL_BINDING_LABEL, ChannelBinding, ClientLogin, ClientRegistration, Password, PasswordError,
};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Answer, Envelope, Replied, Request};
use quinn::Connection;
use rand_core::{OsRng, RngCore};

use super::{AskFailure, Inner, ask_round, open};
use crate::engine::output::PasswordChange;

/// Makes an account. The password never leaves this process.
pub(super) async fn register(
    inner: &Inner,
    connection: &Connection,
    user: UserName,
    password: control::Password,
) -> Result<Replied, AskFailure> {
    let (client, message) = ClientRegistration::start(&to_protocol(&password)?)?;
    let start = Request::RegisterStart { user: user.clone(), message };
    let ids = [random_id()?, random_id()?];
    two_rounds(inner, connection, ids, start, move |challenge| match challenge {
        Answer::Challenge(response) => {
            let record = client.finish(&user, &response)?;
            Ok(Next::Ask(Request::RegisterFinish { record }))
        }
        _ => Err(no_challenge()),
    })
    .await
}

/// Enrols this daemon's key under a user. Bound to this very connection: nobody between the two ends can use it.
pub(super) async fn login(
    inner: &Inner,
    connection: &Connection,
    user: UserName,
    password: control::Password,
) -> Result<Replied, AskFailure> {
    let binding = binding(connection)?;
    let (client, message) = ClientLogin::start(&to_protocol(&password)?)?;
    let start = Request::LoginStart { user: user.clone(), message };
    let ids = [random_id()?, random_id()?];
    two_rounds(inner, connection, ids, start, move |challenge| match challenge {
        Answer::Challenge(response) => {
            let proof = client.finish(&user, &binding, &response)?;
            Ok(Next::Ask(Request::LoginFinish { proof }))
        }
        _ => Err(no_challenge()),
    })
    .await
}

/// Proves the old password and registers the new one. Both rounds have the id by which the tracker tells a retry.
pub(super) async fn change_password(
    inner: &Inner,
    connection: &Connection,
    id: RequestId,
    change: PasswordChange,
) -> Result<Replied, AskFailure> {
    let PasswordChange { user, old, new, log_out_everywhere } = change;
    let binding = binding(connection)?;
    let (old, login) = ClientLogin::start(&to_protocol(&old)?)?;
    let (new, registration) = ClientRegistration::start(&to_protocol(&new)?)?;
    let start = Request::ChangePasswordStart { login, registration };
    two_rounds(inner, connection, [id, id], start, move |challenge| match challenge {
        Answer::PasswordChallenge { login, registration } => {
            let proof = old.finish(&user, &binding, &login).map_err(|error| match error {
                PasswordError::Refused => AskFailure::Local(old_password_refused()),
                error => error.into(),
            })?;
            let record = new.finish(&user, &registration)?;
            Ok(Next::Ask(Request::ChangePasswordFinish { proof, record, log_out_everywhere }))
        }
        // A retry whose first attempt was made after all.
        Answer::Done => Ok(Next::Done),
        _ => Err(no_challenge()),
    })
    .await
}

/// What the answer to a first request leads to.
enum Next {
    /// The second request.
    Ask(Request),
    /// Nothing: it is done.
    Done,
}

/// Asks `start`, makes the second request from the challenge that comes back, and gives the answer to that.
async fn two_rounds(
    inner: &Inner,
    connection: &Connection,
    [first, second]: [RequestId; 2],
    start: Request,
    finish: impl FnOnce(Answer) -> Result<Next, AskFailure> + Send + 'static,
) -> Result<Replied, AskFailure> {
    let mut streams = open(connection).await?;
    let first = ask_round(&mut streams, &Envelope { id: first, seen: 0, request: start }, false).await?;
    let challenge = match first.reply {
        Ok(challenge) => challenge,
        Err(refusal) => {
            streams.complete();
            return Ok(Replied { reply: Err(refusal), knowledge: first.knowledge });
        }
    };
    let turn = inner.stretchings.acquire().await.map_err(|_| AskFailure::Lost)?;
    let stretched = tokio::task::spawn_blocking(move || finish(challenge)).await;
    drop(turn);
    let next =
        stretched.map_err(|_| AskFailure::Local(Reject::new(ErrorCode::INTERNAL, "key stretching failed")))??;
    let last = match next {
        Next::Ask(request) => ask_round(&mut streams, &Envelope { id: second, seen: 0, request }, true).await?,
        Next::Done => Replied { reply: Ok(Answer::Done), knowledge: first.knowledge },
    };
    streams.complete();
    Ok(last)
}

/// What this connection is told from others by.
fn binding(connection: &Connection) -> Result<ChannelBinding, AskFailure> {
    let mut binding: ChannelBinding = [0; 32];
    connection.export_keying_material(&mut binding, CHANNEL_BINDING_LABEL, b"").map_err(|_| AskFailure::Lost)?;
    Ok(binding)
}

/// An id for a request that is not asked again.
fn random_id() -> Result<RequestId, AskFailure> {
    let mut id = [0; RequestId::BYTES];
    OsRng.try_fill_bytes(&mut id).map_err(|error| {
        AskFailure::Local(Reject::new(ErrorCode::INTERNAL, format!("the system gives no random bytes: {error}")))
    })?;
    Ok(RequestId(id))
}

fn no_challenge() -> AskFailure {
    AskFailure::Breach("no challenge".to_owned())
}

fn old_password_refused() -> Reject {
    Reject::new(ErrorCode::LOGIN_REFUSED, "the old password is wrong")
        .hint("if a change of it was interrupted, the new one may be in force already")
}

/// The password as the protocol takes it.
fn to_protocol(password: &control::Password) -> Result<Password, AskFailure> {
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
