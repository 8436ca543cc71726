//! Passwords: OPAQUE (RFC 9807), so that neither the tracker nor anybody between ever sees one.
//!
//! ```text
//! daemon                                     tracker
//! ClientRegistration::start --- request ---> register
//!     .finish               <-- response ---
//!                           ---- upload ---> record_from_upload   → stored with the user
//!
//! ClientLogin::start        --- request ---> ServerLogin::start   ← stored record, or none
//!     .finish               <-- response ---
//!                           ---- proof ----> .finish              → this connection's node is the user's
//! ```
//!
//! Suite: ristretto255-SHA512 (RFC 9496, RFC 9497), 3DH with SHA-512, Argon2id as the key stretching function, which
//! runs in the daemon alone. The user's folded name is both credential and client identifier.

use std::fmt;

use opaque_ke::argon2::{Algorithm, Argon2, Params, Version};
use opaque_ke::errors::{InternalError, ProtocolError};
use opaque_ke::generic_array::{ArrayLength, GenericArray};
use opaque_ke::ksf::Ksf;
use opaque_ke::{
    CipherSuite, ClientLoginFinishParameters, ClientRegistrationFinishParameters, CredentialFinalization,
    CredentialRequest, CredentialResponse, Identifiers, RegistrationRequest, RegistrationResponse, RegistrationUpload,
    Ristretto255, ServerLoginParameters, ServerRegistration, TripleDh,
};
use rand_core::{CryptoRng, OsRng, RngCore};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::limit::PASSWORD_BYTES_MAX;
use crate::name::UserName;

/// What both ends pass to the TLS exporter for [`ChannelBinding`] (RFC 9266 §2), with an empty context.
pub const CHANNEL_BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The TLS connection a login belongs to: 32 bytes from its exporter (RFC 9266), which differ at the two ends as soon
/// as somebody stands between.
pub type ChannelBinding = [u8; 32];

/// Argon2id as OWASP's password storage guide asks at the least: 19 MiB of memory, 2 passes, 1 lane. It runs in the
/// daemon, whose memory is to stay below 64 MiB; RFC 9106's second choice would take all of that.
///
/// Spelled out rather than left to the library's default: whoever changes them locks every user out.
const ARGON2_PARAMS: Params = match Params::new(19 * 1024, 2, 1, None) {
    Ok(params) => params,
    Err(_) => panic!("these parameters are in Argon2's range"),
};

/// Before the channel binding in OPAQUE's context, so that a login to something else never fits (RFC 9807 §6.1).
const CONTEXT_PREFIX: &[u8] = b"p2p-login/1\0";

/// Lengths of the messages in bytes, as the suite fixes them; anything longer or shorter is refused.
const REGISTRATION_REQUEST_BYTES: usize = 32;
const REGISTRATION_RESPONSE_BYTES: usize = 64;
const RECORD_BYTES: usize = 192;
const LOGIN_REQUEST_BYTES: usize = 96;
const LOGIN_RESPONSE_BYTES: usize = 320;
const LOGIN_PROOF_BYTES: usize = 64;
const SETUP_BYTES: usize = 128;

/// A record of nobody: ristretto255's base point (RFC 9496, section 4) as the public key, and zeros. It is read for a user
/// that does not exist, since reading one checks a point, and that is work.
const DECOY_RECORD: [u8; RECORD_BYTES] = {
    const BASE_POINT: [u8; 32] = [
        0xe2, 0xf2, 0xae, 0x0a, 0x6a, 0xbc, 0x4e, 0x71, 0xa8, 0x84, 0xa9, 0x61, 0xc5, 0x00, 0x51, 0x5f, 0x58, 0xe3,
        0x0b, 0x6a, 0xa5, 0x82, 0xdd, 0x8d, 0xb6, 0xa6, 0x59, 0x45, 0xe0, 0x8d, 0x2d, 0x76,
    ];
    let mut record = [0; RECORD_BYTES];
    record.split_at_mut(BASE_POINT.len()).0.copy_from_slice(&BASE_POINT);
    record
};

/// Why a password or a message of the protocol was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// No characters at all.
    #[error("a password must not be empty")]
    Empty,
    /// Longer than [`PASSWORD_BYTES_MAX`].
    #[error("a password must not be longer than {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
    /// Bytes that are not what they should be; the name says what.
    #[error("the {0} is malformed")]
    Malformed(&'static str),
    /// Wrong user, wrong password, or somebody between; which of them is not told.
    #[error("wrong user name or password")]
    Refused,
    /// The protocol broke inside.
    #[error("the password protocol failed: {0}")]
    Failed(InternalError),
}

/// A password in memory: wiped when dropped, never shown.
///
/// Composed characters are made one (Unicode NFC, as RFC 8265 §4.2.2 asks), so that keyboards that spell `é`
/// differently give the same password.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// `text` as a password; `text` is wiped.
    ///
    /// # Errors
    /// [`PasswordError::Empty`], [`PasswordError::TooLong`].
    pub fn new(text: String) -> Result<Password, PasswordError> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err(PasswordError::Empty);
        }
        if text.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        // Three times is as long as NFC can make it (UAX #15 §9): no growing, so no copy is left behind.
        let mut composed = Zeroizing::new(String::with_capacity(3 * text.len()));
        composed.extend(text.nfc());
        Ok(Password(composed))
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The daemon's side of making an account, between its two messages.
pub struct ClientRegistration {
    password: Password,
    state: opaque_ke::ClientRegistration<Suite>,
}

impl ClientRegistration {
    /// Begins, and gives the request to send.
    ///
    /// # Errors
    /// [`PasswordError::Failed`].
    pub fn start(password: &Password) -> Result<(ClientRegistration, Vec<u8>), PasswordError> {
        let started =
            opaque_ke::ClientRegistration::start(&mut OsRng, password.as_bytes()).map_err(refused("password"))?;
        let client = ClientRegistration { password: password.clone(), state: started.state };
        Ok((client, started.message.serialize().to_vec()))
    }

    /// Gives the upload that answers the tracker's `response`. Takes as long as Argon2 does: not for an event loop.
    ///
    /// # Errors
    /// [`PasswordError::Malformed`], [`PasswordError::Failed`].
    pub fn finish(self, user: &UserName, response: &[u8]) -> Result<Vec<u8>, PasswordError> {
        const WHAT: &str = "registration response";
        let response = RegistrationResponse::deserialize(exactly(REGISTRATION_RESPONSE_BYTES, response, WHAT)?)
            .map_err(refused(WHAT))?;
        let key = user.key();
        let params = ClientRegistrationFinishParameters::new(identifiers(&key), None);
        let finished =
            self.state.finish(&mut OsRng, self.password.as_bytes(), response, params).map_err(refused(WHAT))?;
        Ok(finished.message.serialize().to_vec())
    }
}

/// The daemon's side of a login, between its two messages.
pub struct ClientLogin {
    password: Password,
    state: opaque_ke::ClientLogin<Suite>,
}

impl ClientLogin {
    /// Begins, and gives the request to send.
    ///
    /// # Errors
    /// [`PasswordError::Failed`].
    pub fn start(password: &Password) -> Result<(ClientLogin, Vec<u8>), PasswordError> {
        let started = opaque_ke::ClientLogin::start(&mut OsRng, password.as_bytes()).map_err(refused("password"))?;
        Ok((ClientLogin { password: password.clone(), state: started.state }, started.message.serialize().to_vec()))
    }

    /// Gives the proof that answers the tracker's `response` on the connection that `binding` names. Takes as long as
    /// Argon2 does: not for an event loop.
    ///
    /// Success also means that the other end is the very cluster the account was made at.
    ///
    /// # Errors
    /// [`PasswordError::Refused`], [`PasswordError::Malformed`], [`PasswordError::Failed`].
    pub fn finish(self, user: &UserName, binding: &ChannelBinding, response: &[u8]) -> Result<Vec<u8>, PasswordError> {
        const WHAT: &str = "login response";
        let response =
            CredentialResponse::deserialize(exactly(LOGIN_RESPONSE_BYTES, response, WHAT)?).map_err(refused(WHAT))?;
        let (key, context) = (user.key(), context(binding));
        let params = ClientLoginFinishParameters::new(Some(&context), identifiers(&key), None);
        let finished =
            self.state.finish(&mut OsRng, self.password.as_bytes(), response, params).map_err(refused(WHAT))?;
        Ok(finished.message.serialize().to_vec())
    }
}

/// The cluster's secret for passwords: every tracker of a cluster holds the same one, and a new one would make every
/// record worthless.
pub struct ServerSetup(opaque_ke::ServerSetup<Suite>);

impl ServerSetup {
    /// A new random one.
    pub fn generate() -> ServerSetup {
        ServerSetup(opaque_ke::ServerSetup::new(&mut OsRng))
    }

    /// What to store and keep secret.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.serialize().to_vec()
    }

    /// What [`to_bytes`](Self::to_bytes) gave.
    ///
    /// # Errors
    /// [`PasswordError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<ServerSetup, PasswordError> {
        const WHAT: &str = "stored password setup";
        let setup = opaque_ke::ServerSetup::deserialize(exactly(SETUP_BYTES, bytes, WHAT)?).map_err(refused(WHAT))?;
        Ok(ServerSetup(setup))
    }
}

/// The tracker's answer to a registration `request`. Nothing is kept between this and the upload.
///
/// # Errors
/// [`PasswordError::Malformed`], [`PasswordError::Failed`].
pub fn register(setup: &ServerSetup, user: &UserName, request: &[u8]) -> Result<Vec<u8>, PasswordError> {
    const WHAT: &str = "registration request";
    let request =
        RegistrationRequest::deserialize(exactly(REGISTRATION_REQUEST_BYTES, request, WHAT)?).map_err(refused(WHAT))?;
    let started =
        ServerRegistration::<Suite>::start(&setup.0, request, user.key().as_bytes()).map_err(refused(WHAT))?;
    Ok(started.message.serialize().to_vec())
}

/// The record to store with the user, from the upload that ends a registration. It tells a thief nothing faster than
/// guessing through Argon2, and that only together with the [`ServerSetup`].
///
/// # Errors
/// [`PasswordError::Malformed`].
pub fn record_from_upload(upload: &[u8]) -> Result<Vec<u8>, PasswordError> {
    const WHAT: &str = "registration upload";
    let upload =
        RegistrationUpload::<Suite>::deserialize(exactly(RECORD_BYTES, upload, WHAT)?).map_err(refused(WHAT))?;
    Ok(ServerRegistration::finish(upload).serialize().to_vec())
}

/// The tracker's side of a login, between its two messages.
pub struct ServerLogin(opaque_ke::ServerLogin<Suite>);

impl ServerLogin {
    /// Begins a login of `user` on the connection that `binding` names, and gives the response to send.
    ///
    /// `record` is `None` for a user that does not exist: the response is then a dummy of the same length and the same
    /// work (RFC 9807 §10.9), and [`finish`](Self::finish) refuses whatever comes.
    ///
    /// # Errors
    /// [`PasswordError::Malformed`], [`PasswordError::Failed`].
    pub fn start(
        setup: &ServerSetup,
        record: Option<&[u8]>,
        user: &UserName,
        binding: &ChannelBinding,
        request: &[u8],
    ) -> Result<(ServerLogin, Vec<u8>), PasswordError> {
        ServerLogin::start_with(&mut OsRng, setup, record, user, binding, request)
    }

    /// As [`start`](Self::start), with randomness from `random`.
    fn start_with(
        random: &mut (impl RngCore + CryptoRng),
        setup: &ServerSetup,
        record: Option<&[u8]>,
        user: &UserName,
        binding: &ChannelBinding,
        request: &[u8],
    ) -> Result<(ServerLogin, Vec<u8>), PasswordError> {
        const WHAT: &str = "login request";
        let request =
            CredentialRequest::deserialize(exactly(LOGIN_REQUEST_BYTES, request, WHAT)?).map_err(refused(WHAT))?;
        let read = stored_record(record.unwrap_or(&DECOY_RECORD))?;
        let record = record.is_some().then_some(read);
        let (key, context) = (user.key(), context(binding));
        let params = ServerLoginParameters { context: Some(&context), identifiers: identifiers(&key) };
        let started = opaque_ke::ServerLogin::start(random, &setup.0, record, request, key.as_bytes(), params)
            .map_err(refused(WHAT))?;
        Ok((ServerLogin(started.state), started.message.serialize().to_vec()))
    }

    /// Ends it: with `Ok`, whoever is at the other end of the connection knows the user's password.
    ///
    /// # Errors
    /// [`PasswordError::Refused`], [`PasswordError::Malformed`].
    pub fn finish(self, proof: &[u8]) -> Result<(), PasswordError> {
        const WHAT: &str = "login proof";
        let proof =
            CredentialFinalization::deserialize(exactly(LOGIN_PROOF_BYTES, proof, WHAT)?).map_err(refused(WHAT))?;
        // 3DH has context and identifiers in the state already; the session key has no use beside TLS.
        self.0.finish(proof, ServerLoginParameters::default()).map_err(refused(WHAT))?;
        Ok(())
    }
}

struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2_opaque::Sha512>;
    type Ksf = KeyStretching;
}

/// Argon2id with [`ARGON2_PARAMS`]; the salt is OPAQUE's own, already in its input.
struct KeyStretching(Argon2<'static>);

impl Default for KeyStretching {
    fn default() -> Self {
        KeyStretching(Argon2::new(Algorithm::Argon2id, Version::V0x13, ARGON2_PARAMS))
    }
}

impl Ksf for KeyStretching {
    fn hash<L: ArrayLength<u8>>(&self, input: GenericArray<u8, L>) -> Result<GenericArray<u8, L>, InternalError> {
        Ksf::hash(&self.0, input)
    }
}

fn stored_record(bytes: &[u8]) -> Result<ServerRegistration<Suite>, PasswordError> {
    const WHAT: &str = "stored password record";
    ServerRegistration::deserialize(exactly(RECORD_BYTES, bytes, WHAT)?).map_err(refused(WHAT))
}

/// The server's identifier stays its public key, which the record vouches for.
fn identifiers(user_key: &str) -> Identifiers<'_> {
    Identifiers { client: Some(user_key.as_bytes()), server: None }
}

fn context(binding: &ChannelBinding) -> Vec<u8> {
    [CONTEXT_PREFIX, binding].concat()
}

/// The library reads from the front and leaves the rest: the length is checked here.
fn exactly<'a>(length: usize, bytes: &'a [u8], what: &'static str) -> Result<&'a [u8], PasswordError> {
    if bytes.len() == length { Ok(bytes) } else { Err(PasswordError::Malformed(what)) }
}

fn refused(what: &'static str) -> impl FnOnce(ProtocolError) -> PasswordError {
    move |error| match error {
        ProtocolError::InvalidLoginError => PasswordError::Refused,
        ProtocolError::LibraryError(error) => PasswordError::Failed(error),
        _ => PasswordError::Malformed(what),
    }
}

#[cfg(test)]
mod tests;
