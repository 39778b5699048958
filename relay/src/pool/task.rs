//! One relay's life: dial, talk, wait, again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nostr::{RelayUrl, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::checkpoint::Checkpoints;
use super::health::Health;
use super::incoming::Incoming;
use super::reply::{FetchError, PublishReply};
use super::session::{End, Session, hand_over};
use super::{Command, Role, Shared};

/// What of a relay outlives its connections.
pub(super) struct RelayTask {
    pub(super) shared: Arc<Shared>,
    pub(super) url: RelayUrl,
    pub(super) role: Role,
    pub(super) health: Arc<Health>,
    pub(super) cancel: CancellationToken,
    pub(super) checkpoints: Checkpoints,
    /// Verified and counted as seen, waiting for a place in the daemon's queue. Never dropped while the pool lives, because
    /// other relays' copies are dropped already.
    pub(super) deliveries: VecDeque<Incoming>,
    failures: u32,
}

impl RelayTask {
    pub(super) fn new(
        shared: Arc<Shared>,
        url: RelayUrl,
        role: Role,
        health: Arc<Health>,
        cancel: CancellationToken,
    ) -> Self {
        let (checkpoints, deliveries) = (Checkpoints::new(), VecDeque::new());
        Self { shared, url, role, health, cancel, checkpoints, deliveries, failures: 0 }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let cancel = self.cancel.clone();
        loop {
            let error = tokio::select! {
                () = cancel.cancelled() => break,
                end = self.connect_and_talk(&mut commands) => match end {
                    End::Stopped => break,
                    End::Lost(error) => error,
                },
            };
            tracing::debug!(relay = %self.url, %error, "connection failed or ended");
            if self.role == Role::Hinted {
                self.health.waiting(0, error.clone());
                answer_all(&mut commands, &error);
                break;
            }
            let wait = self.shared.config.limits.backoff.wait(self.failures, rand::random());
            self.health.waiting(Timestamp::now().as_secs() + wait.as_secs(), error.clone());
            if !self.wait(wait, &mut commands, &error).await {
                break;
            }
        }
        self.leave(commands).await;
    }

    async fn connect_and_talk(&mut self, commands: &mut mpsc::Receiver<Command>) -> End {
        self.health.update(|state| state.link = super::Link::Connecting);
        self.failures = self.failures.saturating_add(1);
        let socket = match self.shared.dialer.dial(&self.url, self.role).await {
            Ok(socket) => socket,
            Err(error) => return End::Lost(error.to_string()),
        };
        self.health.connected(Timestamp::now().as_secs());
        let since = Instant::now();
        let end = Session::new(self, socket).run(commands).await;
        if since.elapsed() >= self.shared.config.limits.backoff.healthy_after {
            self.failures = 1;
        }
        end
    }

    /// Waits, answering commands at once: whoever asks is not kept waiting for a relay that is down. False: stop.
    async fn wait(&mut self, wait: Duration, commands: &mut mpsc::Receiver<Command>, error: &str) -> bool {
        let until = tokio::time::sleep(wait);
        tokio::pin!(until);
        let incoming = self.shared.incoming.clone();
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => return false,
                () = &mut until => return true,
                command = commands.recv() => match command {
                    Some(command) => refuse(command, error),
                    None => return false,
                },
                permit = incoming.reserve(), if !self.deliveries.is_empty() => {
                    let Ok(permit) = permit else { return false };
                    hand_over(permit, &mut self.deliveries);
                }
            }
        }
    }

    fn strike_off(&self) {
        let mut relays = self.shared.relays();
        if relays.get(&self.url).is_some_and(|handle| Arc::ptr_eq(&handle.health, &self.health)) {
            relays.remove(&self.url);
        }
    }

    /// Takes itself off the list, then answers whoever came too late.
    async fn leave(mut self, mut commands: mpsc::Receiver<Command>) {
        commands.close();
        self.strike_off();
        answer_all(&mut commands, "the connection is being closed");
        // A relay that the owner removed may still hold events that count as seen.
        let incoming = self.shared.incoming.clone();
        for event in self.deliveries.drain(..) {
            tokio::select! {
                () = self.shared.cancel.cancelled() => return,
                sent = incoming.send(event) => if sent.is_err() { return },
            }
        }
    }
}

fn answer_all(commands: &mut mpsc::Receiver<Command>, error: &str) {
    while let Ok(command) = commands.try_recv() {
        refuse(command, error);
    }
}

/// Answers a command that cannot be carried out now. A caller that has gone is no concern.
fn refuse(command: Command, error: &str) {
    match command {
        Command::Publish { reply, .. } => {
            let _ = reply.send(PublishReply::Unreachable { message: error.to_owned() });
        }
        Command::Fetch { reply, .. } => {
            let _ = reply.send(Err(FetchError::Unreachable(error.to_owned())));
        }
    }
}
