//! Samples of what a daemon and a tracker say to each other.

use super::{BORN, TIME, Table, content, grant, name, node, variants};
use crate::grant::ClusterKey;
use crate::id::RequestId;
use crate::reject::{ErrorCode, Reject};
use crate::tracker::{
    Announce, Answer, EnrolledNode, Envelope, Event, Group, Hello, HelloAck, JoinPolicy, JoinRequest, Joined,
    Knowledge, Listing, Member, OwnedRequest, Presence, Provider, Providers, Replied, Reply, Request, Standing,
};
use crate::version::TRACKER_PROTOCOL as VERSION;

variants!(JoinPolicy: Approval Open Public);
variants!(Standing: Owner Member Requested None);
variants!(Joined: Member Waiting);
variants!(Request:
    RegisterStart RegisterFinish LoginStart LoginFinish Logout CreateGroup JoinGroup LeaveGroup AcceptRequest
    RejectRequest RemoveMember TransferGroup DeleteGroup Publish Unpublish ListGroups GroupInfo ListMembers
    ListRequests ListFiles FindFile Lookup Grant Announce SetPolicy ListNodes WithdrawNode ChangePasswordStart
    ChangePasswordFinish ListOwnedRequests Standby PublishFolder);
variants!(Answer:
    Done Challenge Joined Groups Members Requests Files Providers Grant Nodes PasswordChallenge OwnedRequests);
variants!(Event: Enrolment Membership JoinRequested Provider Revoked Wanted Born LoggedOut);

pub(super) fn tables() -> Vec<Table> {
    vec![
        Table::of("tracker_hello", VERSION, hellos()),
        Table::of("tracker_hello_ack", VERSION, hello_acks()),
        Table::of(
            "tracker_envelope",
            VERSION,
            vec![("logout", Envelope { id: RequestId([9; 16]), seen: 300, request: Request::Logout })],
        ),
        Table::of_enum(
            "tracker_join_policy",
            VERSION,
            vec![("", JoinPolicy::Approval), ("", JoinPolicy::Open), ("", JoinPolicy::Public)],
        ),
        Table::of_enum(
            "tracker_standing",
            VERSION,
            vec![("", Standing::Owner), ("", Standing::Member), ("", Standing::Requested), ("", Standing::None)],
        ),
        Table::of_enum(
            "tracker_joined",
            VERSION,
            vec![("", Joined::Member), ("", Joined::Waiting { owner: name("alice") })],
        ),
        Table::of_enum("tracker_request", VERSION, requests()),
        Table::of_enum("tracker_answer", VERSION, answers()),
        Table::of(
            "tracker_reply",
            VERSION,
            vec![
                ("ok", replied(Ok(Answer::Done), true)),
                ("old", replied(Ok(Answer::Done), false)),
                (
                    "err",
                    replied(Err(Reject::new(ErrorCode::GROUP_EXISTS, "group `photos` exists").hint("join it")), true),
                ),
            ],
        ),
        Table::of_enum("tracker_event", VERSION, events()),
    ]
}

fn replied(reply: Reply, current: bool) -> Replied {
    Replied { reply, knowledge: Knowledge { current, place: 300 } }
}

fn hellos() -> Vec<(&'static str, Hello)> {
    let addresses = ["192.0.2.7:9100", "[2001:db8::7]:9100"].map(|text| text.parse().expect("an address"));
    vec![
        ("bare", Hello { version: 1, software: "p2p 0.1.0".into(), local_addresses: vec![] }),
        ("addresses", Hello { version: 1, software: "p2p 0.1.0".into(), local_addresses: addresses.to_vec() }),
    ]
}

fn hello_acks() -> Vec<(&'static str, HelloAck)> {
    let stranger = HelloAck {
        version: 1,
        software: "p2p 0.1.0".into(),
        cluster: ClusterKey([5; 32]),
        time: TIME,
        observed: "192.0.2.7:9100".parse().expect("an address"),
        user: None,
        leader: true,
        current: true,
        place: 300,
    };
    let alice = HelloAck { user: Some(name("alice")), leader: false, current: false, ..stranger.clone() };
    vec![("stranger", stranger), ("alice", alice)]
}

fn requests() -> Vec<(&'static str, Request)> {
    let group = || name("photos");
    let user = || name("bob");
    let announce = Announce {
        replace: true,
        present: vec![
            Presence { group: group(), content: content(1), complete: true, born: Some(BORN) },
            Presence { group: group(), content: content(2), complete: false, born: None },
        ],
        withdrawn: vec![(group(), content(3))],
    };
    vec![
        ("", Request::RegisterStart { user: user(), message: vec![1, 2, 3] }),
        ("", Request::RegisterFinish { record: vec![4; 192] }),
        ("", Request::LoginStart { user: user(), message: vec![5; 96] }),
        ("", Request::LoginFinish { proof: vec![6; 64] }),
        ("", Request::Logout),
        ("", Request::CreateGroup { group: group(), policy: JoinPolicy::Public }),
        ("", Request::JoinGroup { group: group() }),
        ("", Request::LeaveGroup { group: group(), force: true }),
        ("", Request::AcceptRequest { group: group(), user: user() }),
        ("", Request::RejectRequest { group: group(), user: user() }),
        ("", Request::RemoveMember { group: group(), user: user() }),
        ("", Request::TransferGroup { group: group(), user: user() }),
        ("", Request::DeleteGroup { group: group() }),
        (
            "",
            Request::Publish {
                group: group(),
                name: name("naïve café.txt"),
                content: content(1),
                length: 1 << 40,
                replace: true,
                born: Some(BORN),
            },
        ),
        ("own", Request::Unpublish { group: group(), name: name("beach.jpg"), owner: None }),
        ("other", Request::Unpublish { group: group(), name: name("beach.jpg"), owner: Some(user()) }),
        ("first", Request::ListGroups { mine: false, after: None }),
        ("after", Request::ListGroups { mine: true, after: Some(group()) }),
        ("", Request::GroupInfo { group: group() }),
        ("", Request::ListMembers { group: group(), after: Some(user()) }),
        ("", Request::ListRequests { group: group(), after: None }),
        ("", Request::ListFiles { group: group(), after: Some((name("beach.jpg"), user())) }),
        ("", Request::FindFile { group: group(), name: name("beach.jpg"), owner: Some(user()) }),
        ("", Request::Lookup { group: group(), content: content(1) }),
        ("", Request::Grant { group: group() }),
        ("", Request::Announce(announce.clone())),
        ("", Request::SetPolicy { group: group(), policy: JoinPolicy::Open }),
        ("", Request::ListNodes),
        ("", Request::WithdrawNode { node: node(7) }),
        ("", Request::ChangePasswordStart { login: vec![5; 96], registration: vec![1, 2, 3] }),
        ("", Request::ChangePasswordFinish { proof: vec![6; 64], record: vec![4; 192], log_out_everywhere: true }),
        ("", Request::ListOwnedRequests { after: Some((group(), user())) }),
        ("", Request::Standby(announce)),
        (
            "",
            Request::PublishFolder {
                group: group(),
                born: BORN,
                name: name("album"),
                content: content(1),
                length: 300,
                files: 3,
                replace: true,
            },
        ),
    ]
}

fn provider() -> Provider {
    let addresses = ["192.0.2.7:9100", "[2001:db8::7]:9100"].map(|text| text.parse().expect("an address"));
    Provider { node: node(7), user: name("bob"), addresses: addresses.to_vec(), complete: true }
}

fn answers() -> Vec<(&'static str, Answer)> {
    let group = Group {
        group: name("photos"),
        owner: name("alice"),
        policy: JoinPolicy::Approval,
        members: 14,
        files: 37,
        standing: Standing::Requested,
        born: BORN,
    };
    let member = Member { user: name("alice"), owner: true, since: TIME, nodes_online: 2 };
    let listing = Listing {
        name: name("beach.jpg"),
        owner: name("alice"),
        content: content(1),
        length: 300,
        added: TIME,
        seeders: 3,
        partial: 2,
        born: BORN,
        files: Some(3),
    };
    let waiting = Joined::Waiting { owner: name("alice") };
    let providers = Providers { providers: vec![provider()], last_seeder: None };
    let gone = Providers { providers: vec![], last_seeder: Some((name("bob"), TIME)) };
    vec![
        ("", Answer::Done),
        ("", Answer::Challenge(vec![1, 2, 3])),
        ("", Answer::Joined(waiting)),
        ("", Answer::Groups(vec![group])),
        ("", Answer::Members(vec![member])),
        ("", Answer::Requests(vec![JoinRequest { user: name("bob"), since: TIME }])),
        ("", Answer::Files(vec![listing])),
        ("online", Answer::Providers(providers)),
        ("gone", Answer::Providers(gone)),
        ("", Answer::Grant(grant())),
        (
            "",
            Answer::Nodes(vec![
                EnrolledNode { node: node(7), since: Some(TIME), online: true },
                EnrolledNode { node: node(8), since: None, online: false },
            ]),
        ),
        ("", Answer::PasswordChallenge { login: vec![7; 320], registration: vec![8; 64] }),
        ("", Answer::OwnedRequests(vec![OwnedRequest { group: name("photos"), user: name("bob"), since: TIME }])),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("user", Event::Enrolment { user: Some(name("alice")) }),
        ("nobody", Event::Enrolment { user: None }),
        ("", Event::Membership { group: name("photos"), standing: Standing::Member }),
        ("", Event::JoinRequested { group: name("photos"), user: name("bob") }),
        ("", Event::Provider { group: name("photos"), content: content(1), provider: provider() }),
        ("node", Event::Revoked { group: name("photos"), node: Some(node(7)), epoch: 300 }),
        ("everybody", Event::Revoked { group: name("photos"), node: None, epoch: 300 }),
        ("", Event::Wanted { group: name("photos"), content: content(1) }),
        ("", Event::Born { group: name("photos"), born: BORN }),
        ("", Event::LoggedOut { nodes: vec![(node(7), 300)] }),
    ]
}
