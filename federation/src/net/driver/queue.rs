//! Events on their way to a consumer that may be slow.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::net::events::NetEvent;
use crate::net::stats::{Counters, count};

/// Events about connections that wait until the consumer has room: several for each of the 256 connections.
const MAX_WAITING: usize = 1_024;

/// Events about connections wait; gossip and streams do not: they are refused to whoever sent them.
pub(crate) struct EventQueue {
    to: mpsc::Sender<NetEvent>,
    waiting: VecDeque<NetEvent>,
    counters: Arc<Counters>,
}

impl EventQueue {
    pub(crate) fn new(to: mpsc::Sender<NetEvent>, counters: Arc<Counters>) -> Self {
        Self { to, waiting: VecDeque::new(), counters }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Hands over an event that must not be lost, in order.
    pub(crate) fn push(&mut self, event: NetEvent) {
        if let Err(event) = self.offer(event) {
            if self.waiting.len() == MAX_WAITING {
                self.waiting.pop_front();
                count(&self.counters.events_dropped);
            }
            self.waiting.push_back(*event);
        }
    }

    /// Hands over an event if there is room now and none waits before it.
    pub(crate) fn offer(&mut self, event: NetEvent) -> Result<(), Box<NetEvent>> {
        if self.is_waiting() {
            return Err(Box::new(event));
        }
        match self.to.try_send(event) {
            // A consumer that is gone wants nothing.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(event)) => Err(Box::new(event)),
        }
    }

    /// Waits for room and hands over the oldest waiting event. Cancel-safe.
    pub(crate) async fn flush(&mut self) {
        match self.to.reserve().await {
            Ok(permit) => {
                if let Some(event) = self.waiting.pop_front() {
                    permit.send(event);
                }
            }
            Err(_) => self.waiting.clear(),
        }
    }
}
