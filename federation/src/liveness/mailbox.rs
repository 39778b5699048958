//! A queue between the machine and a stream that may be slow: the oldest datagram gives way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Datagrams that wait for one link: some seconds' worth. What is older is of no use to a failure detector.
const MAX_WAITING: usize = 32;

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<(VecDeque<Vec<u8>>, bool)>,
    news: Notify,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mailbox(Arc<Inner>);

impl Mailbox {
    /// Adds a datagram, in place of the oldest if there is no room.
    pub(crate) fn push(&self, bytes: Vec<u8>) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.0.len() == MAX_WAITING {
            waiting.0.pop_front();
        }
        waiting.0.push_back(bytes);
        drop(waiting);
        self.0.news.notify_one();
    }

    /// Nothing more comes; what waits is still taken.
    pub(crate) fn close(&self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.0.news.notify_one();
    }

    /// The next datagram; `None` after [`Self::close`]. One taker at a time.
    pub(crate) async fn pop(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                match (waiting.0.pop_front(), waiting.1) {
                    (Some(bytes), _) => return Some(bytes),
                    (None, true) => return None,
                    (None, false) => {}
                }
            }
            self.0.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_gives_way() {
        let mailbox = Mailbox::default();
        for n in 0..=MAX_WAITING {
            mailbox.push(vec![u8::try_from(n).unwrap()]);
        }
        mailbox.close();
        assert_eq!(mailbox.pop().await, Some(vec![1]));
        for _ in 2..=MAX_WAITING {
            assert!(mailbox.pop().await.is_some());
        }
        assert_eq!(mailbox.pop().await, None);
    }
}
