//! Accounts: the tracker's side of OPAQUE's two exchanges, each two rounds on one stream.
//!
//! A login is bound to its connection by the TLS exporter, and what it enrols is the key that this connection has proved.
//! Unknown user and wrong password are one refusal, and take the same two rounds.

use std::time::{Duration, Instant};

use p2p_proto::name::UserName;
use p2p_proto::password::{self, CHANNEL_BINDING_LABEL, ChannelBinding, PasswordError, ServerLogin};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Answer, Envelope, Reply, Request};
use quinn::{RecvStream, SendStream};
use tracing::{debug, info};

use super::session::Session;
use super::{Shared, frames, requests};
use crate::state::{Command, refusal};

/// How long a daemon may take between the rounds: its key stretching, also on a slow and busy machine.
const STRETCHING_DEADLINE: Duration = Duration::from_secs(30);

/// Makes an account. `None` where the other end is gone.
pub async fn register(
    shared: &Shared,
    session: &Session,
    send: &mut SendStream,
    recv: &mut RecvStream,
    user: UserName,
    message: &[u8],
) -> Option<Reply> {
    let (Some(_turn), Ok(_place)) = (session.exchange_turn(), shared.exchanges.try_acquire()) else {
        return Some(Err(busy()));
    };
    let address = session.connection.remote_address().ip();
    if !shared.admission.attempt(address, &user, Instant::now()) {
        return Some(Err(too_often()));
    }
    // Told before the daemon stretches a key for nothing; what counts is decided when the entry is applied.
    if let Err(taken) = shared.consensus.query(|state| state.may_create(&user)) {
        return Some(Err(taken));
    }
    let challenge = match password::register(&shared.passwords, &user, message) {
        Ok(challenge) => challenge,
        Err(error) => return Some(Err(refused(error))),
    };
    let Envelope { id, request } = match second_round(send, recv, challenge).await? {
        Ok(envelope) => envelope,
        Err(reject) => return Some(Err(reject)),
    };
    let Request::RegisterFinish { record } = request else { return Some(Err(out_of_place())) };
    match password::record_from_upload(&record) {
        Ok(record) => {
            shared.admission.succeeded(address, &user);
            Some(requests::change(shared, session.node, id, Command::CreateUser { user, record }).await)
        }
        Err(error) => Some(Err(refused(error))),
    }
}

/// Checks a password and enrols the connection's key. `None` where the other end is gone.
pub async fn login(
    shared: &Shared,
    session: &Session,
    send: &mut SendStream,
    recv: &mut RecvStream,
    user: UserName,
    message: &[u8],
) -> Option<Reply> {
    let (Some(_turn), Ok(_place)) = (session.exchange_turn(), shared.exchanges.try_acquire()) else {
        return Some(Err(busy()));
    };
    let address = session.connection.remote_address().ip();
    if !shared.admission.attempt(address, &user, Instant::now()) {
        return Some(Err(too_often()));
    }
    let (enrolled, record) = shared.consensus.query(|state| {
        let record = state.record(&user).map(|(name, record)| (name.clone(), record.to_vec()));
        (state.user_of_node(session.node).cloned(), record)
    });
    if let Some(other) = enrolled.filter(|enrolled| enrolled.key() != user.key()) {
        return Some(Err(refusal::already_logged_in(&other)));
    }
    let mut binding: ChannelBinding = [0; 32];
    if session.connection.export_keying_material(&mut binding, CHANNEL_BINDING_LABEL, b"").is_err() {
        return Some(Err(Reject::new(ErrorCode::INTERNAL, "the connection cannot be bound to a login")));
    }
    let known = record.as_ref().map(|(_, record)| record.as_slice());
    let (exchange, challenge) = match ServerLogin::start(&shared.passwords, known, &user, &binding, message) {
        Ok(started) => started,
        Err(error) => return Some(Err(refused(error))),
    };
    let Envelope { id, request } = match second_round(send, recv, challenge).await? {
        Ok(envelope) => envelope,
        Err(reject) => return Some(Err(reject)),
    };
    let Request::LoginFinish { proof } = request else { return Some(Err(out_of_place())) };
    let proved = exchange.finish(&proof);
    match (proved, record) {
        (Ok(()), Some((user, _))) => {
            shared.admission.succeeded(address, &user);
            Some(requests::change(shared, session.node, id, Command::EnrolNode { user }).await)
        }
        (Err(PasswordError::Malformed(what)), _) => Some(Err(refused(PasswordError::Malformed(what)))),
        _ => {
            info!(target: "audit", node = %session.node, %address, ?user, "login refused");
            Some(Err(refusal::login_refused()))
        }
    }
}

/// Sends the challenge and reads what answers it. `None` where the other end is gone or too slow.
async fn second_round(
    send: &mut SendStream,
    recv: &mut RecvStream,
    challenge: Vec<u8>,
) -> Option<Result<Envelope, Reject>> {
    if !frames::write(send, &Reply::Ok(Answer::Challenge(challenge))).await {
        return None;
    }
    let next = frames::read_patiently(recv, requests::SMALL_FRAME_BYTES_MAX, STRETCHING_DEADLINE).await;
    match next {
        Ok(envelope) => Some(Ok(envelope)),
        Err(error) => requests::refuse(error).map(Err),
    }
}

/// A message of the protocol was refused. The library does not tell garbage from a fault of its own, so neither does this.
fn refused(error: PasswordError) -> Reject {
    debug!(%error, "password exchange failed");
    Reject::new(ErrorCode::MALFORMED, error.to_string())
}

fn out_of_place() -> Reject {
    Reject::new(ErrorCode::MALFORMED, "the second message of a password exchange is not the one that belongs there")
}

fn busy() -> Reject {
    Reject::new(ErrorCode::BUSY, "the tracker is checking too many passwords").hint("try again in a few seconds")
}

fn too_often() -> Reject {
    Reject::new(ErrorCode::BUSY, "too many passwords were tried for this name from here")
        .hint("try again in a few seconds")
}
