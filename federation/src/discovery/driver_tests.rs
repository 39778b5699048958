//! The driver on this machine's loopback interface.

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn own(label: String) -> Own {
    Own { label, quic_port: 4_001, tcp_port: Some(4_002), tag: vec![7; 16] }
}

fn label(kind: &str) -> String {
    format!("{kind}-{}", hex::encode(rand::random::<[u8; 6]>()))
}

fn loopback() -> Interfaces {
    Interfaces::new(|name| name == "lo")
}

struct Running {
    label: String,
    commands: mpsc::Sender<Command>,
    told: mpsc::Receiver<DiscoveryEvent>,
    daemon: mdns_sd::ServiceDaemon,
    cancel: CancellationToken,
    tracker: TaskTracker,
}

fn run(kind: &str) -> Running {
    let own = own(label(kind));
    let label = own.label.clone();
    let session = Session::start(&own, &loopback()).unwrap();
    let daemon = session.daemon.clone();
    let (events, told) = mpsc::channel(EVENTS);
    let (commands, asked) = mpsc::channel(COMMANDS);
    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    tracker.spawn(Driver::new(own, loopback(), session, events).run(asked, cancel.clone()));
    Running { label, commands, told, daemon, cancel, tracker }
}

impl Running {
    async fn wait(&mut self, wanted: impl Fn(&DiscoveryEvent) -> bool) -> DiscoveryEvent {
        let wait = async {
            loop {
                let event = self.told.recv().await.expect("it runs");
                if wanted(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("in time")
    }

    async fn sees(&mut self, label: &str) -> Vec<u8> {
        let is = |e: &DiscoveryEvent| matches!(e, DiscoveryEvent::Seen { instance, .. } if instance == label);
        let DiscoveryEvent::Seen { tag, .. } = self.wait(is).await else { unreachable!("it was seen") };
        tag
    }

    async fn loses(&mut self, label: &str) {
        self.wait(|e| matches!(e, DiscoveryEvent::Gone { instance } if instance == label)).await;
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait()).await.expect("it stops");
    }
}

#[tokio::test]
async fn seen_with_a_new_tag_and_gone() {
    let (mut a, b) = (run("a"), run("b"));
    assert_eq!(a.sees(&b.label).await, vec![7; 16]);
    b.commands.send(Command::Tag(vec![8; 16])).await.unwrap();
    while a.sees(&b.label).await != vec![8; 16] {}
    let gone = b.label.clone();
    b.stop().await;
    a.loses(&gone).await;
}

/// The library closes a subscription that is read too slowly; here it is closed by hand.
#[tokio::test]
async fn a_closed_subscription_is_opened_again() {
    let mut a = run("a");
    a.daemon.stop_browse(SERVICE).unwrap();
    let b = run("b");
    a.sees(&b.label).await;
}

#[tokio::test]
async fn a_daemon_that_ended_is_started_again() {
    let mut a = run("a");
    let first = run("b");
    a.sees(&first.label).await;
    a.daemon.shutdown().unwrap();
    a.loses(&first.label).await;
    a.sees(&first.label).await;
}

#[test]
fn too_long_a_tag_is_refused() {
    assert!(matches!(check_tag(&[0; MAX_TAG + 1]), Err(DiscoveryError::Tag(33))));
}
