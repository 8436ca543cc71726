//! Accounts: the tracker's side of OPAQUE's exchanges, each two rounds on one stream.
//!
//! A proof is bound to its connection by the TLS exporter, and what a login enrols is the key that this connection has
//! proved. Unknown user and wrong password are one refusal, and take the same two rounds and the same work: which of them it
//! is plays no part before the proof has come.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use p2p_proto::id::RequestId;
use p2p_proto::name::UserName;
use p2p_proto::password::{self, CHANNEL_BINDING_LABEL, ChannelBinding, PasswordError, ServerLogin};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Answer, Envelope, Reply, Request};
use quinn::{RecvStream, SendStream};
use tracing::debug;

use super::Shared;
use super::attempts::{Attempts, Place};
use super::audit::Attempt;
use super::requests::{self, replied};
use super::session::{ExchangeTurn, Session};
use crate::frames;
use crate::state::{Command, refusal};

/// How long a daemon may take between the rounds: its key stretching, also on a slow and busy machine.
const STRETCHING_DEADLINE: Duration = Duration::from_secs(30);

/// Why an exchange has no answer of the state's.
pub enum End {
    /// Refused before.
    Refused(Reject),
    /// The other end is gone, or too slow.
    Gone,
}

impl From<Reject> for End {
    fn from(reject: Reject) -> End {
        End::Refused(reject)
    }
}

/// One exchange: its session and stream.
pub struct Exchange<'a> {
    pub shared: &'a Shared,
    pub session: &'a Session,
    pub send: &'a mut SendStream,
    pub recv: &'a mut RecvStream,
}

/// What an exchange holds for as long as it lasts.
struct Admitted<'a> {
    _turn: ExchangeTurn<'a>,
    _place: Place,
    address: IpAddr,
}

/// Counts an attempt in [`Attempts`]; how long to wait where there were too many.
type Count = fn(&Attempts, IpAddr, &UserName, Instant) -> Result<(), Duration>;

impl Exchange<'_> {
    /// Makes an account.
    pub async fn register(&mut self, user: UserName, message: &[u8]) -> Result<Reply, End> {
        let session = self.session;
        let admitted = admit(self.shared, session, &user, Attempts::account).await?;
        let by = self.shared.consensus.query(|state| state.user_of_node(session.node).cloned());
        let attempt = Attempt::begin(session, "create_user", Some(&user), by.as_ref());
        written(attempt, self.register_admitted(&admitted, &user, message).await)
    }

    async fn register_admitted(
        &mut self,
        admitted: &Admitted<'_>,
        user: &UserName,
        message: &[u8],
    ) -> Result<Reply, End> {
        let (shared, session) = (self.shared, self.session);
        // Told before the daemon stretches a key for nothing; what counts is decided when the entry is applied.
        shared.consensus.query(|state| state.may_create(user))?;
        let challenge = password::register(shared.passwords(), user, message).map_err(refused)?;
        let Envelope { id, request, .. } = self.second_round(Answer::Challenge(challenge)).await?;
        let Request::RegisterFinish { record } = request else { return Err(out_of_place().into()) };
        let record = password::record_from_upload(&record).map_err(refused)?;
        shared.attempts.succeeded(admitted.address, user);
        Ok(requests::change(shared, session.node, id, Command::CreateUser { user: user.clone(), record }).await)
    }

    /// Checks a password and enrols the connection's key.
    pub async fn login(&mut self, user: UserName, message: &[u8]) -> Result<Reply, End> {
        let session = self.session;
        let admitted = admit(self.shared, session, &user, Attempts::password).await?;
        let by = self.shared.consensus.query(|state| state.user_of_node(session.node).cloned());
        let attempt = Attempt::begin(session, "login", Some(&user), by.as_ref());
        written(attempt, self.login_admitted(&admitted, &user, by.as_ref(), message).await)
    }

    async fn login_admitted(
        &mut self,
        admitted: &Admitted<'_>,
        user: &UserName,
        enrolled: Option<&UserName>,
        message: &[u8],
    ) -> Result<Reply, End> {
        let (shared, session) = (self.shared, self.session);
        if let Some(other) = enrolled.filter(|enrolled| enrolled.key() != user.key()) {
            return Err(refusal::already_logged_in(other).into());
        }
        let known =
            shared.consensus.query(|state| state.record(user).map(|(name, record)| (name.clone(), record.to_vec())));
        let record = known.as_ref().map(|(_, record)| record.as_slice());
        let (login, challenge) = start(shared, session, record, user, message)?;
        let Envelope { id, request, .. } = self.second_round(Answer::Challenge(challenge)).await?;
        let Request::LoginFinish { proof } = request else { return Err(out_of_place().into()) };
        match (login.finish(&proof), known) {
            (Ok(()), Some((known, proved))) => {
                shared.attempts.succeeded(admitted.address, user);
                Ok(requests::change(shared, session.node, id, Command::Login { user: known, proved }).await)
            }
            (Err(PasswordError::Malformed(what)), _) => Err(refused(PasswordError::Malformed(what)).into()),
            _ => Err(refusal::login_refused().into()),
        }
    }

    /// Checks the password of the user that this node is enrolled under, and replaces it. Both rounds have the same request
    /// id, by which a retry is told: after the first time, the old password would be refused.
    pub async fn change_password(&mut self, id: RequestId, login: &[u8], registration: &[u8]) -> Result<Reply, End> {
        let (shared, session) = (self.shared, self.session);
        let known = shared.consensus.query(|state| {
            if let Some(outcome) = state.applied(session.node, id) {
                return Ok(Err(Answer::from(outcome.clone())));
            }
            let user = state.user_of_node(session.node).ok_or_else(refusal::login_needed)?;
            let record = state.record(user).map(|(_, record)| record.to_vec());
            Ok::<_, Reject>(Ok((user.clone(), record.ok_or_else(refusal::login_needed)?)))
        })?;
        let (user, proved) = match known {
            Ok(known) => known,
            Err(answer) => return Ok(Ok(answer)),
        };
        let admitted = admit(shared, session, &user, Attempts::password).await?;
        let attempt = Attempt::begin(session, "change_password", None, Some(&user));
        written(attempt, self.change_admitted(&admitted, id, &user, proved, [login, registration]).await)
    }

    async fn change_admitted(
        &mut self,
        admitted: &Admitted<'_>,
        id: RequestId,
        user: &UserName,
        proved: Vec<u8>,
        [login, registration]: [&[u8]; 2],
    ) -> Result<Reply, End> {
        let (shared, session) = (self.shared, self.session);
        let (exchange, login) = start(shared, session, Some(&proved), user, login)?;
        let registration = password::register(shared.passwords(), user, registration).map_err(refused)?;
        let second = self.second_round(Answer::PasswordChallenge { login, registration }).await?;
        let Request::ChangePasswordFinish { proof, record, log_out_everywhere } = second.request else {
            return Err(out_of_place().into());
        };
        let record = password::record_from_upload(&record).map_err(refused)?;
        match exchange.finish(&proof) {
            Ok(()) => {
                shared.attempts.succeeded(admitted.address, user);
                let command = Command::ChangePassword { proved, record, log_out_everywhere };
                Ok(requests::change(shared, session.node, id, command).await)
            }
            Err(PasswordError::Refused) => Err(refusal::old_password_refused().into()),
            Err(error) => Err(refused(error).into()),
        }
    }

    /// Sends the challenge and reads what answers it.
    async fn second_round(&mut self, challenge: Answer) -> Result<Envelope, End> {
        if !frames::write(self.send, &replied(self.shared, Ok(challenge), true)).await {
            return Err(End::Gone);
        }
        let next = frames::read_patiently(self.recv, requests::SMALL_FRAME_BYTES_MAX, STRETCHING_DEADLINE).await;
        next.map_err(|error| requests::refuse(error).map_or(End::Gone, End::Refused))
    }
}

/// Has it written how an exchange ended that has come to no command.
fn written(attempt: Attempt<'_>, ended: Result<Reply, End>) -> Result<Reply, End> {
    attempt.ended(match &ended {
        Ok(_) => None,
        Err(End::Refused(reject)) => Some(reject.code),
        Err(End::Gone) => Some(ErrorCode::INTERRUPTED),
    });
    ended
}

/// Lets an exchange begin: before anything is looked up or computed for it.
async fn admit<'a>(
    shared: &Shared,
    session: &'a Session,
    user: &UserName,
    count: Count,
) -> Result<Admitted<'a>, Reject> {
    let turn = session.exchange_turn().ok_or_else(busy)?;
    let address = session.connection.remote_address().ip();
    count(&shared.attempts, address, user, Instant::now()).map_err(|wait| {
        debug!(node = %session.node, %address, ?user, "too many attempts");
        too_often(wait)
    })?;
    let Some(place) = shared.attempts.place(address).await else {
        shared.attempts.succeeded(address, user);
        return Err(busy());
    };
    Ok(Admitted { _turn: turn, _place: place, address })
}

/// Begins the check of a password on the session's connection; `None` is the record of a user that does not exist.
fn start(
    shared: &Shared,
    session: &Session,
    record: Option<&[u8]>,
    user: &UserName,
    message: &[u8],
) -> Result<(ServerLogin, Vec<u8>), Reject> {
    let mut binding: ChannelBinding = [0; 32];
    if session.connection.export_keying_material(&mut binding, CHANNEL_BINDING_LABEL, b"").is_err() {
        return Err(Reject::new(ErrorCode::INTERNAL, "the connection cannot be bound to a login"));
    }
    ServerLogin::start(shared.passwords(), record, user, &binding, message).map_err(refused)
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

/// Says how long to wait, in whole seconds.
fn too_often(wait: Duration) -> Reject {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Reject::new(ErrorCode::BUSY, "too many passwords or accounts were tried from here")
        .hint(format!("try again in {seconds} s"))
}
