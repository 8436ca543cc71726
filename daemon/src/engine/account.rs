//! Who is logged in, and what begins and ends with that.

use p2p_proto::control::{Answer, LoggedIn, LoggedOut};
use p2p_proto::name::UserName;
use p2p_proto::reject::{ErrorCode, Reject};

use super::input::CommandId;
use super::record::{Account, Change};
use super::steps::Step;
use super::trackers::Tracker;
use super::{Engine, Output};

impl Engine {
    /// Who is logged in, or the refusal for those commands that need it.
    pub(super) fn user(&self) -> Result<&UserName, Reject> {
        self.account.as_ref().map(|account| &account.user).ok_or_else(|| {
            Reject::new(ErrorCode::LOGIN_NEEDED, "nobody is logged in here").hint("log in with `p2pctl login USER`")
        })
    }

    /// Makes `account` the one logged in, and keeps that on disk if it changed.
    pub(super) fn change_account(&mut self, account: Option<Account>) {
        if self.account != account {
            if let (Some(before), None) = (&self.account, &account) {
                self.outputs.push_back(Output::Note(format!("{} is no longer logged in here", before.user)));
            }
            self.adopt_account(account);
            self.remember(Step::Kept, vec![Change::Account(self.account.clone())]);
        }
    }

    /// Stops what belongs to who was logged in, starts what belongs to who is.
    pub(super) fn adopt_account(&mut self, account: Option<Account>) {
        let same_user = self.account.as_ref().map(|old| &old.user) == account.as_ref().map(|new| &new.user);
        self.account = account;
        if let Some(account) = &self.account {
            self.revoked.keep_for(account.cluster);
        }
        if same_user {
            return;
        }
        self.stop_serving();
        self.rest_downloads();
        self.grants.clear();
        self.devices.known.clear();
        self.shares.set_user(self.user().ok().cloned());
        self.wake_downloads();
        // With the user the tracker has forgotten what this node announced.
        self.trackers.iter_mut().for_each(Tracker::forget_announced);
        self.left_groups.clear();
        self.told_standings.clear();
        self.forget_share_groups();
        self.publish_now();
        self.announce_soon();
        self.join_requests.known.clear();
        self.ask_join_requests();
        self.tell_account();
    }

    /// The login was accepted: what rested goes on.
    pub(super) fn logged_in(&mut self, command: CommandId, user: UserName) {
        let cluster = self.trackers.iter().find_map(|tracker| tracker.cluster);
        let Some(cluster) = cluster else {
            let reject = self.no_tracker();
            self.fail(command, reject);
            return;
        };
        self.adopt_account(Some(Account { user: user.clone(), cluster }));
        let answer = Answer::LoggedIn(LoggedIn {
            node: self.config.node,
            shares: u32::try_from(self.shares.active().count()).unwrap_or(u32::MAX),
            downloads: self.unfinished_downloads(&user),
            user,
        });
        self.remember(Step::Told(command, Box::new(answer)), vec![Change::Account(self.account.clone())]);
    }

    /// The logout was accepted: everything rests until the same user's next login.
    pub(super) fn logged_out(&mut self, command: CommandId, user: UserName) {
        let answer = Answer::LoggedOut(LoggedOut {
            shares: self.shares.count_of(&user),
            downloads: self.unfinished_downloads(&user),
            user,
        });
        self.adopt_account(None);
        self.remember(Step::Told(command, Box::new(answer)), vec![Change::Account(None)]);
    }

    /// Keeps changes on disk, then goes on with `step`.
    pub(super) fn remember(&mut self, step: Step, mut changes: Vec<Change>) {
        // What is streamed is gone with its command, and at the latest with the daemon.
        changes.retain(|change| !matches!(change, Change::PutDownload(record) if self.is_streamed(record.id)));
        let ask = self.expect(step);
        self.outputs.push_back(Output::Remember(ask, changes));
    }
}
