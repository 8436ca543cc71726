//! Accounts made and logged in to, rightly and wrongly.

use proptest::prelude::*;
use rand_core::{CryptoRng, RngCore};

use super::*;

const BINDING: ChannelBinding = [3; 32];

fn password(text: &str) -> Password {
    Password::new(text.to_owned()).expect("a good password")
}

fn user(name: &str) -> UserName {
    name.parse().expect("a good name")
}

fn record(setup: &ServerSetup, name: &str, text: &str) -> Vec<u8> {
    let (client, request) = ClientRegistration::start(&password(text)).expect("starts");
    let response = register(setup, &user(name), &request).expect("answers");
    assert_eq!((request.len(), response.len()), (REGISTRATION_REQUEST_BYTES, REGISTRATION_RESPONSE_BYTES));
    let upload = client.finish(&user(name), &response).expect("finishes");
    record_from_upload(&upload).expect("a record")
}

/// A login up to the proof; the daemon refuses first where it can tell.
fn login(setup: &ServerSetup, record: Option<&[u8]>, name: &str, text: &str) -> Result<(), PasswordError> {
    login_between(setup, record, name, text, BINDING, BINDING)
}

fn login_between(
    setup: &ServerSetup,
    record: Option<&[u8]>,
    name: &str,
    text: &str,
    daemon_binding: ChannelBinding,
    tracker_binding: ChannelBinding,
) -> Result<(), PasswordError> {
    let (client, request) = ClientLogin::start(&password(text))?;
    let (server, response) = ServerLogin::start(setup, record, &user(name), &tracker_binding, &request)?;
    assert_eq!((request.len(), response.len()), (LOGIN_REQUEST_BYTES, LOGIN_RESPONSE_BYTES));
    match client.finish(&user(name), &daemon_binding, &response) {
        Ok(proof) => server.finish(&proof),
        Err(error) => {
            assert_eq!(server.finish(&[0; LOGIN_PROOF_BYTES]), Err(PasswordError::Refused));
            Err(error)
        }
    }
}

#[test]
fn the_right_password_logs_in() {
    let setup = ServerSetup::generate();
    let record = record(&setup, "alice", "correct horse");
    let restarted = ServerSetup::from_bytes(&setup.to_bytes()).expect("reads");
    assert_eq!(login(&restarted, Some(&record), "alice", "correct horse"), Ok(()));
    assert_eq!(login(&restarted, Some(&record), "Alice", "correct horse"), Ok(()), "the same user by another spelling");
}

#[test]
fn a_password_is_the_same_from_every_keyboard() {
    let setup = ServerSetup::generate();
    let record = record(&setup, "alice", "caf\u{e9}");
    assert_eq!(login(&setup, Some(&record), "alice", "cafe\u{301}"), Ok(()));
}

#[test]
fn a_wrong_password_and_an_unknown_user_look_alike() {
    let setup = ServerSetup::generate();
    let record = record(&setup, "alice", "correct horse");
    assert_eq!(login(&setup, Some(&record), "alice", "battery staple"), Err(PasswordError::Refused));
    assert_eq!(login(&setup, None, "bob", "battery staple"), Err(PasswordError::Refused));
    assert_eq!(login(&setup, None, "alice", "correct horse"), Err(PasswordError::Refused));
}

/// Randomness that is counted, call by call.
#[derive(Default)]
struct CountedRandom(Vec<usize>);

impl RngCore for CountedRandom {
    fn next_u32(&mut self) -> u32 {
        self.0.push(4);
        OsRng.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.push(8);
        OsRng.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.push(bytes.len());
        OsRng.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for CountedRandom {}

/// Every step of the protocol that makes a key, a nonce or a dummy draws bytes, so the draws show the steps.
#[test]
fn an_unknown_user_takes_the_steps_of_a_known_one() {
    let setup = ServerSetup::generate();
    let record = record(&setup, "alice", "correct horse");
    let (_, request) = ClientLogin::start(&password("battery staple")).expect("starts");
    let steps = [Some(record.as_slice()), None].map(|record| {
        let mut random = CountedRandom::default();
        let started = ServerLogin::start_with(&mut random, &setup, record, &user("alice"), &BINDING, &request);
        let (server, response) = started.expect("answers");
        (random.0, response.len(), server.finish(&[7; LOGIN_PROOF_BYTES]))
    });
    assert!(!steps[0].0.is_empty());
    assert_eq!(steps[0], steps[1]);
}

#[test]
fn the_decoy_is_read_like_a_record() {
    assert_eq!(stored_record(&DECOY_RECORD).expect("a record").serialize().as_slice(), DECOY_RECORD);
}

#[test]
fn a_record_serves_only_its_own_user_and_cluster() {
    let setup = ServerSetup::generate();
    let record = record(&setup, "alice", "correct horse");
    assert_eq!(login(&setup, Some(&record), "bob", "correct horse"), Err(PasswordError::Refused));
    let other = ServerSetup::generate();
    assert_eq!(login(&other, Some(&record), "alice", "correct horse"), Err(PasswordError::Refused));
}

#[test]
fn a_login_passed_on_by_somebody_between_is_refused() {
    let setup = ServerSetup::generate();
    let record = record(&setup, "alice", "correct horse");
    let passed_on = login_between(&setup, Some(&record), "alice", "correct horse", [3; 32], [4; 32]);
    assert_eq!(passed_on, Err(PasswordError::Refused));
}

#[test]
fn a_record_neither_holds_the_password_nor_is_one() {
    let setup = ServerSetup::generate();
    let record = record(&setup, "alice", "correct horse");
    assert!(!record.windows(7).any(|window| window == b"correct"));
    for part in [&record[..], &record[..32], &record[32..96], &record[96..]] {
        assert_eq!(login(&setup, Some(&record), "alice", &hex::encode(part)), Err(PasswordError::Refused));
    }
}

#[test]
fn a_proof_is_good_for_one_login() {
    let setup = ServerSetup::generate();
    let record = record(&setup, "alice", "correct horse");
    let (client, request) = ClientLogin::start(&password("correct horse")).expect("starts");
    let start = || ServerLogin::start(&setup, Some(&record), &user("alice"), &BINDING, &request).expect("answers");
    let ((first, response), (second, _)) = (start(), start());
    let proof = client.finish(&user("alice"), &BINDING, &response).expect("finishes");
    assert_eq!(first.finish(&proof), Ok(()));
    assert_eq!(second.finish(&proof), Err(PasswordError::Refused));
}

#[test]
fn a_password_has_bounds_and_is_not_shown() {
    assert_eq!(Password::new(String::new()).err(), Some(PasswordError::Empty));
    assert_eq!(Password::new("x".repeat(PASSWORD_BYTES_MAX + 1)).err(), Some(PasswordError::TooLong));
    let longest = Password::new("x".repeat(PASSWORD_BYTES_MAX)).expect("a good password");
    assert_eq!(format!("{longest:?}"), "Password(…)");
    assert!(ClientLogin::start(&longest).is_ok());
}

#[test]
fn composing_never_outgrows_its_buffer() {
    // U+1D160 is one of those that NFC makes three times as long.
    let text = "\u{1d160}".repeat(PASSWORD_BYTES_MAX / 4);
    assert_eq!(password(&text).as_bytes().len(), 3 * text.len());
}

#[test]
fn a_message_of_another_length_is_malformed() {
    let setup = ServerSetup::generate();
    let record = record(&setup, "alice", "correct horse");
    let alice = user("alice");
    let (client, mut request) = ClientLogin::start(&password("correct horse")).expect("starts");
    let (_, mut response) = ServerLogin::start(&setup, Some(&record), &alice, &BINDING, &request).expect("answers");
    request.push(0);
    response.push(0);
    let answer = ServerLogin::start(&setup, Some(&record), &alice, &BINDING, &request).err();
    assert_eq!(answer, Some(PasswordError::Malformed("login request")));
    assert_eq!(client.finish(&alice, &BINDING, &response), Err(PasswordError::Malformed("login response")));
    let huge = vec![0x5a; 1 << 20];
    assert_eq!(register(&setup, &alice, &huge), Err(PasswordError::Malformed("registration request")));
    assert_eq!(record_from_upload(&huge), Err(PasswordError::Malformed("registration upload")));
    assert_eq!(ServerSetup::from_bytes(&huge).err(), Some(PasswordError::Malformed("stored password setup")));
    let stored = ServerLogin::start(&setup, Some(&huge), &alice, &BINDING, &request[..LOGIN_REQUEST_BYTES]).err();
    assert_eq!(stored, Some(PasswordError::Malformed("stored password record")));
}

/// Bytes of the right length, where the library's own checks begin.
fn message(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), length), any::<u8>().prop_map(move |byte| vec![byte; length])]
}

proptest! {
    #[test]
    fn garbage_makes_no_tracker_panic(
        registration in message(REGISTRATION_REQUEST_BYTES),
        record in message(RECORD_BYTES),
        request in message(LOGIN_REQUEST_BYTES),
        proof in message(LOGIN_PROOF_BYTES),
        setup_bytes in message(SETUP_BYTES),
    ) {
        let setup = ServerSetup::generate();
        let alice = user("alice");
        let _ = register(&setup, &alice, &registration);
        let _ = record_from_upload(&record);
        let _ = ServerSetup::from_bytes(&setup_bytes);
        let _ = ServerLogin::start(&setup, Some(&record), &alice, &BINDING, &request);
        let (_, request) = ClientLogin::start(&password("correct horse"))?;
        let (server, _) = ServerLogin::start(&setup, None, &alice, &BINDING, &request)?;
        prop_assert_eq!(server.finish(&proof), Err(PasswordError::Refused));
    }

    #[test]
    fn garbage_makes_no_daemon_panic(
        registration in message(REGISTRATION_RESPONSE_BYTES),
        login in message(LOGIN_RESPONSE_BYTES),
    ) {
        let (client, _) = ClientRegistration::start(&password("correct horse"))?;
        // A fair share of random points are good ones, and a registration proves nothing: only a login must fail.
        let _ = client.finish(&user("alice"), &registration);
        let (client, _) = ClientLogin::start(&password("correct horse"))?;
        prop_assert!(client.finish(&user("alice"), &BINDING, &login).is_err());
    }
}
