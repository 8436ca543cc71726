//! Grants: the trackers' signed, short-lived word that a node may read a group's content.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::id::NodeId;
use crate::limit::{CLOCK_LEEWAY_SECONDS, GRANT_LIFE_SECONDS};
use crate::name::{GroupName, UserName};
use crate::time::UnixMillis;

/// Version of [`GrantBody`] and of what is signed. 1: the first.
const VERSION: u8 = 1;

/// Stands before the body in what is signed, so that no signature made for another purpose passes as a grant.
const SIGNED_PREFIX: &[u8] = b"p2p-grant/1\0";

/// Names a cluster of trackers: the Ed25519 public key (RFC 8032) that all of them sign grants with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterKey(pub [u8; 32]);

impl fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKey({})", hex::encode(&self.0[..4]))
    }
}

/// What a grant says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantBody {
    /// Version of this layout; first, so that a later one can be told before the rest is read.
    pub version: u8,
    /// The cluster that speaks.
    pub cluster: ClusterKey,
    /// The node that may read.
    pub node: NodeId,
    /// Whose node it is: serving is fair by user.
    pub user: UserName,
    /// The group whose content it may read.
    pub group: GroupName,
    /// How often any node had lost access to any group when this was issued: a revocation names the epoch that it
    /// begins, and voids what was issued to its node before.
    pub epoch: u64,
    /// When it was issued, by the tracker's clock.
    pub issued: UnixMillis,
    /// From when on it says nothing, by the tracker's clock.
    pub expires: UnixMillis,
    /// When the group was born ([`crate::tracker::Group::born`]): what is shared with an earlier group of that name is not
    /// served by this.
    pub born: UnixMillis,
}

impl GrantBody {
    /// The body of a grant issued now, for [`GRANT_LIFE_SECONDS`].
    pub fn new(
        cluster: ClusterKey,
        node: NodeId,
        user: UserName,
        group: GroupName,
        born: UnixMillis,
        epoch: u64,
        now: UnixMillis,
    ) -> GrantBody {
        let expires = now.plus(Duration::from_secs(GRANT_LIFE_SECONDS));
        GrantBody { version: VERSION, cluster, node, user, group, epoch, issued: now, expires, born }
    }

    /// How long after receiving it the holder asks for the next: half its life, whatever anybody's clock says.
    pub fn renew_after(&self) -> Duration {
        self.expires.since(self.issued) / 2
    }
}

/// A grant as it travels: the exact bytes that were signed, so that nobody has to encode them again alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// Encoded [`GrantBody`].
    pub body: Vec<u8>,
    /// Ed25519 signature (RFC 8032), 64 bytes.
    pub signature: Vec<u8>,
}

/// Why a grant was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The body is not one, or of a later version.
    #[error("the grant is malformed")]
    Malformed,
    /// Speaks for another cluster.
    #[error("the grant is from another cluster of trackers")]
    WrongCluster,
    /// Not signed by the cluster, or changed since.
    #[error("the grant is forged: its signature is not the trackers'")]
    Forged,
    /// Given to another node.
    #[error("the grant was given to another node, {}", .0.short())]
    WrongNode(NodeId),
    /// Given for another group.
    #[error("the grant is for another group, `{0}`")]
    WrongGroup(GroupName),
    /// Issued later than any honest clock says it is.
    #[error("the grant is from the future, issued at {0}: is a clock wrong?")]
    FromTheFuture(UnixMillis),
    /// Made to live longer than [`GRANT_LIFE_SECONDS`].
    #[error("the grant lives longer than {GRANT_LIFE_SECONDS} seconds")]
    TooLong,
    /// Its time is over.
    #[error("the grant expired at {0}")]
    Expired(UnixMillis),
}

impl Grant {
    /// What the grant says, not yet verified: for its holder to know when to renew, never to decide on.
    ///
    /// # Errors
    /// [`GrantError::Malformed`].
    pub fn peek(&self) -> Result<GrantBody, GrantError> {
        match codec::decode::<GrantBody>(&self.body) {
            Ok(body) if body.version == VERSION => Ok(body),
            _ => Err(GrantError::Malformed),
        }
    }

    /// What the grant says, if `cluster` signed that `node` (proved by TLS) may read the content of `group` at `now`.
    ///
    /// Names of groups are compared by their key, as the tracker does.
    ///
    /// `now` is the verifier's best knowledge of the tracker's time. A grant issued up to [`CLOCK_LEEWAY_SECONDS`] in
    /// the future is taken, since the clocks may stand that far apart. Expiry gets no leeway: with every tracker down
    /// exposure ends with the grant, and a leeway would only move that end. The honest holder needs none, for it renews
    /// at half the life ([`GrantBody::renew_after`]), which leaves [`CLOCK_LEEWAY_SECONDS`] for a verifier whose clock
    /// is fast. One whose clock is slow serves longer by that error and no more.
    ///
    /// # Errors
    /// One [`GrantError`] for each reason to refuse; the first that holds, in the order in which they are listed.
    pub fn verify(
        &self,
        cluster: &ClusterKey,
        node: NodeId,
        group: &GroupName,
        now: UnixMillis,
    ) -> Result<GrantBody, GrantError> {
        let body = self.peek()?;
        // Asked before the signature only to give an honest mistake its own name; what passes is verified next.
        if body.cluster != *cluster {
            return Err(GrantError::WrongCluster);
        }
        UnparsedPublicKey::new(&ED25519, cluster.0)
            .verify(&signed_bytes(&self.body), &self.signature)
            .map_err(|_| GrantError::Forged)?;
        if body.node != node {
            return Err(GrantError::WrongNode(body.node));
        }
        if body.group.key() != group.key() {
            return Err(GrantError::WrongGroup(body.group));
        }
        if body.issued > now.plus(Duration::from_secs(CLOCK_LEEWAY_SECONDS)) {
            return Err(GrantError::FromTheFuture(body.issued));
        }
        if body.expires.since(body.issued) > Duration::from_secs(GRANT_LIFE_SECONDS) {
            return Err(GrantError::TooLong);
        }
        if now >= body.expires {
            return Err(GrantError::Expired(body.expires));
        }
        Ok(body)
    }
}

/// Why there is no signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantKeyError {
    /// The cryptographic library made none.
    #[error("cannot make a signing key for grants")]
    NotMade,
    /// The stored document holds none.
    #[error("the stored signing key for grants is damaged")]
    Damaged,
}

/// The cluster's secret: what makes grants. Every tracker of a cluster holds the same one.
pub struct GrantSigner {
    key: Ed25519KeyPair,
    cluster: ClusterKey,
}

impl GrantSigner {
    /// A new random key for the caller to store and keep secret: PKCS#8 (RFC 5958, RFC 8410), DER.
    ///
    /// # Errors
    /// [`GrantKeyError::NotMade`].
    pub fn generate_document() -> Result<Vec<u8>, GrantKeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| GrantKeyError::NotMade)?;
        Ok(document.as_ref().to_vec())
    }

    /// The signer whose key [`generate_document`](Self::generate_document) made.
    ///
    /// # Errors
    /// [`GrantKeyError::Damaged`].
    pub fn from_document(document: &[u8]) -> Result<GrantSigner, GrantKeyError> {
        let key = Ed25519KeyPair::from_pkcs8(document).map_err(|_| GrantKeyError::Damaged)?;
        let public = key.public_key().as_ref().try_into().map_err(|_| GrantKeyError::Damaged)?;
        Ok(GrantSigner { key, cluster: ClusterKey(public) })
    }

    /// What verifiers know this signer by.
    pub fn public_key(&self) -> ClusterKey {
        self.cluster
    }

    /// `body`, signed. Deterministic, as Ed25519 is. The body's cluster must be [`public_key`](Self::public_key), or
    /// every verifier refuses it.
    pub fn sign(&self, body: &GrantBody) -> Grant {
        let body = codec::encode(body);
        let signature = self.key.sign(&signed_bytes(&body)).as_ref().to_vec();
        Grant { body, signature }
    }
}

impl fmt::Debug for GrantSigner {
    /// Only the public half.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GrantSigner").field(&self.cluster).finish()
    }
}

fn signed_bytes(body: &[u8]) -> Vec<u8> {
    [SIGNED_PREFIX, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMillis = UnixMillis(1_795_217_000_000);
    const BORN: UnixMillis = UnixMillis(1_795_000_000_000);
    const NODE: NodeId = NodeId([7; 32]);

    fn signer() -> GrantSigner {
        GrantSigner::from_document(&GrantSigner::generate_document().expect("made")).expect("reads")
    }

    fn group(name: &str) -> GroupName {
        name.parse().expect("a good name")
    }

    fn body(signer: &GrantSigner) -> GrantBody {
        GrantBody::new(signer.public_key(), NODE, "alice".parse().expect("a good name"), group("Film"), BORN, 3, NOW)
    }

    fn verify_at(signer: &GrantSigner, grant: &Grant, now: u64) -> Result<GrantBody, GrantError> {
        grant.verify(&signer.public_key(), NODE, &group("film"), UnixMillis(now))
    }

    #[test]
    fn a_grant_says_what_was_signed_until_it_expires() {
        let signer = signer();
        let grant = signer.sign(&body(&signer));
        let life = GRANT_LIFE_SECONDS * 1000;
        for now in [NOW.0 - CLOCK_LEEWAY_SECONDS * 1000, NOW.0, NOW.0 + life - 1] {
            assert_eq!(verify_at(&signer, &grant, now), Ok(body(&signer)));
        }
        for now in [NOW.0 + life, NOW.0 + life + 1, u64::MAX] {
            assert_eq!(verify_at(&signer, &grant, now), Err(GrantError::Expired(UnixMillis(NOW.0 + life))));
        }
    }

    #[test]
    fn a_grant_from_the_future_is_refused() {
        let signer = signer();
        let grant = signer.sign(&body(&signer));
        for now in [0, NOW.0 - CLOCK_LEEWAY_SECONDS * 1000 - 1] {
            assert_eq!(verify_at(&signer, &grant, now), Err(GrantError::FromTheFuture(NOW)));
        }
    }

    #[test]
    fn a_grant_of_another_cluster_is_refused() {
        let (ours, theirs) = (signer(), signer());
        let grant = theirs.sign(&body(&theirs));
        assert_eq!(verify_at(&ours, &grant, NOW.0), Err(GrantError::WrongCluster));
    }

    #[test]
    fn a_grant_signed_by_somebody_else_is_refused() {
        let (ours, theirs) = (signer(), signer());
        assert_eq!(verify_at(&ours, &theirs.sign(&body(&ours)), NOW.0), Err(GrantError::Forged));
    }

    #[test]
    fn a_signature_over_the_bare_body_is_refused() {
        let signer = signer();
        let mut grant = signer.sign(&body(&signer));
        grant.signature = signer.key.sign(&grant.body).as_ref().to_vec();
        assert_eq!(verify_at(&signer, &grant, NOW.0), Err(GrantError::Forged));
    }

    #[test]
    fn a_grant_of_another_node_or_group_is_refused() {
        let signer = signer();
        let grant = signer.sign(&body(&signer));
        let cluster = signer.public_key();
        let stolen = grant.verify(&cluster, NodeId([8; 32]), &group("film"), NOW);
        assert_eq!(stolen, Err(GrantError::WrongNode(NODE)));
        let elsewhere = grant.verify(&cluster, NODE, &group("books"), NOW);
        assert_eq!(elsewhere, Err(GrantError::WrongGroup(group("Film"))));
    }

    #[test]
    fn a_grant_that_lives_too_long_is_refused() {
        let signer = signer();
        let mut body = body(&signer);
        body.expires = UnixMillis(body.expires.0 + 1);
        assert_eq!(verify_at(&signer, &signer.sign(&body), NOW.0), Err(GrantError::TooLong));
        body.expires = UnixMillis(u64::MAX);
        assert_eq!(verify_at(&signer, &signer.sign(&body), NOW.0), Err(GrantError::TooLong));
    }

    #[test]
    fn a_malformed_grant_is_refused() {
        let signer = signer();
        let grant = signer.sign(&body(&signer));
        let mut longer = grant.clone();
        longer.body.push(0);
        let shorter = Grant { body: grant.body[..grant.body.len() - 1].to_vec(), ..grant.clone() };
        let later = signer.sign(&GrantBody { version: VERSION + 1, ..body(&signer) });
        for malformed in [longer, shorter, later] {
            assert_eq!(verify_at(&signer, &malformed, NOW.0), Err(GrantError::Malformed));
        }
    }

    #[test]
    fn no_bit_can_be_flipped() {
        let signer = signer();
        let grant = signer.sign(&body(&signer));
        for bit in 0..(grant.body.len() + grant.signature.len()) * 8 {
            let mut flipped = grant.clone();
            let bytes = flipped.body.iter_mut().chain(flipped.signature.iter_mut());
            bytes.skip(bit / 8).take(1).for_each(|byte| *byte ^= 1 << (bit % 8));
            assert!(verify_at(&signer, &flipped, NOW.0).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_holder_renews_at_half_the_life() {
        let signer = signer();
        let peeked = signer.sign(&body(&signer)).peek().expect("reads");
        assert_eq!(peeked.renew_after(), Duration::from_secs(GRANT_LIFE_SECONDS / 2));
    }

    #[test]
    fn a_damaged_document_is_refused() {
        let document = GrantSigner::generate_document().expect("made");
        for end in 0..document.len() {
            assert_eq!(GrantSigner::from_document(&document[..end]).err(), Some(GrantKeyError::Damaged));
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused(body: Vec<u8>, signature: Vec<u8>) {
            let garbage = Grant { body, signature };
            prop_assert!(garbage.verify(&ClusterKey([9; 32]), NODE, &group("film"), NOW).is_err());
        }
    }
}
