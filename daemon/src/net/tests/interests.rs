//! Interests: what each end is told, in order, and what happens to those who do not keep to it.

use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::WireHaveMap;
use p2p_proto::peer::{FromDownloader, FromProvider, Load, Open, close_code};
use p2p_proto::reject::{ErrorCode, Reject};
use quinn::VarInt;

use super::*;
use crate::engine::input::{InterestId, ServedId};

impl Node {
    async fn interest_opened(&mut self) -> ServedId {
        match self.next().await {
            Input::InterestOpened { served, interest: shown, .. } => {
                assert_eq!(shown, interest());
                served
            }
            other => panic!("no interest: {other:?}"),
        }
    }

    async fn offered(&mut self, id: InterestId) -> FromProvider {
        match self.next().await {
            Input::Offered(from, message) if from == id => message,
            other => panic!("no offer: {other:?}"),
        }
    }
}

#[tokio::test]
async fn have_map_updates_and_renewals_travel_in_both_directions() {
    let (mut downloader, mut connection, mut provider, mut at_provider) = pair().await;
    // Either end of the connection may be the downloader.
    for _ in 0..2 {
        let id = InterestId(1);
        downloader.net.open_interest(id, connection, interest());
        let served = provider.interest_opened().await;
        let news = [
            FromProvider::HaveMap(WireHaveMap::Bits(vec![0xa0])),
            FromProvider::Have(vec![PieceIndex(1), PieceIndex(4)]),
            FromProvider::Load(Load { queued_requests: 3, active_peers: 1 }),
        ];
        for message in news {
            provider.net.provide(served, message.clone());
            assert_eq!(downloader.offered(id).await, message);
        }
        downloader.net.renew_interest(id, grant());
        assert!(
            matches!(provider.next().await, Input::InterestRenewed(renewed, shown) if renewed == served && shown == grant())
        );
        downloader.net.close_interest(id);
        assert!(matches!(provider.next().await, Input::ServedClosed(closed) if closed == served));
        (downloader, provider) = (provider, downloader);
        (connection, at_provider) = (at_provider, connection);
    }
}

#[tokio::test]
async fn a_refusal_reaches_the_downloader_with_its_reason() {
    let (mut downloader, connection, mut provider, _) = pair().await;
    downloader.net.open_interest(InterestId(4), connection, interest());
    let served = provider.interest_opened().await;
    let reason = Reject::new(ErrorCode::GRANT_REFUSED, "the grant has expired");
    provider.net.provide(served, FromProvider::Refused(reason.clone()));
    assert!(matches!(downloader.next().await, Input::InterestClosed(InterestId(4), Some(told)) if told == reason));
    assert!(matches!(provider.next().await, Input::ServedClosed(closed) if closed == served));
    // Of an interest that has ended nothing is told any more.
    downloader.net.close_interest(InterestId(4));
    provider.net.provide(served, FromProvider::Have(vec![]));
}

#[tokio::test]
async fn the_end_of_a_connection_ends_its_interests_first() {
    let (mut downloader, connection, mut provider, at_provider) = pair().await;
    downloader.net.open_interest(InterestId(1), connection, interest());
    let served = provider.interest_opened().await;
    downloader.net.close(connection, close_code::SHUTDOWN);
    assert!(matches!(downloader.next().await, Input::InterestClosed(InterestId(1), None)));
    downloader.lost(connection).await;
    assert!(matches!(provider.next().await, Input::ServedClosed(closed) if closed == served));
    provider.lost(at_provider).await;
    // One that is opened too late is answered all the same.
    downloader.net.open_interest(InterestId(2), connection, interest());
    assert!(matches!(downloader.next().await, Input::InterestClosed(InterestId(2), None)));
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_dropped() {
    let (mut node, id, _raw, connection) = raw_peer().await;
    let (_send, _recv) = send_open(&connection, &Open::Interest(interest())).await;
    let served = node.interest_opened().await;
    let message = FromProvider::HaveMap(WireHaveMap::Bits(vec![0xff; 100 * 1024]));
    while connection.close_reason().is_none() {
        node.net.provide(served, message.clone());
        tokio::task::yield_now().await;
    }
    assert_eq!(closed_with(&connection).await, VarInt::from_u32(close_code::BUSY));
    assert!(matches!(node.next().await, Input::ServedClosed(closed) if closed == served));
    node.lost(id).await;
}

#[tokio::test]
async fn interests_of_one_peer_are_bounded() {
    let (mut node, _, _raw, connection) = raw_peer().await;
    let mut kept = Vec::new();
    for _ in 0..super::super::connection::SERVED_INTERESTS_MAX {
        kept.push(send_open(&connection, &Open::Interest(interest())).await);
        node.interest_opened().await;
    }
    let (_send, mut recv) = send_open(&connection, &Open::Interest(interest())).await;
    let refused: FromProvider = expect_frame(&mut recv, 16 * 1024, PATIENCE).await.expect("an answer");
    assert!(matches!(refused, FromProvider::Refused(reason) if reason.code == ErrorCode::BUSY));
}

#[tokio::test]
async fn malformed_renewals_end_the_connection() {
    let (mut node, id, _raw, connection) = raw_peer().await;
    let (mut send, _recv) = send_open(&connection, &Open::Interest(interest())).await;
    let served = node.interest_opened().await;
    write_frame(&mut send, &FromDownloader::Renew(grant()), PATIENCE).await.expect("writes");
    assert!(matches!(node.next().await, Input::InterestRenewed(..)));
    send.write_all(&[3, 0, 0, 0, 9, 9, 9]).await.expect("writes");
    assert_eq!(closed_with(&connection).await, VarInt::from_u32(close_code::PROTOCOL));
    assert!(matches!(node.next().await, Input::ServedClosed(closed) if closed == served));
    node.lost(id).await;
}

#[tokio::test]
async fn a_provider_that_begins_without_a_have_map_loses_its_connection() {
    let (mut node, id, _raw, connection) = raw_peer().await;
    node.net.open_interest(InterestId(1), id, interest());
    let (mut send, mut recv) = connection.accept_bi().await.expect("a stream");
    let open: Open = expect_frame(&mut recv, 16 * 1024, PATIENCE).await.expect("an interest");
    assert_eq!(open, Open::Interest(interest()));
    write_frame(&mut send, &FromProvider::Have(vec![PieceIndex(0)]), PATIENCE).await.expect("writes");
    assert_eq!(closed_with(&connection).await, VarInt::from_u32(close_code::PROTOCOL));
    assert!(matches!(node.next().await, Input::InterestClosed(InterestId(1), None)));
    node.lost(id).await;
}
