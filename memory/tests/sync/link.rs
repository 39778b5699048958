//! Links over real streams.

use std::sync::Arc;
use std::time::Duration;

use memory::sync::{
    End, ErrorCode, Link, LinkConfig, LinkError, MAX_FRAME, Message, Patience, read_frame, write_frame,
};
use nips::memory::Space;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::double::{Double, events, fleet, keys};

const LONG: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Tasks {
    fn link(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        peer: u64,
        replica: &Arc<Double>,
        config: LinkConfig,
    ) -> Link {
        let peer = keys(peer).public_key();
        Link::start(stream, peer, Arc::<Double>::clone(replica), config, (&self.tracker, &self.cancel))
    }

    async fn end(self) {
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

async fn both_ways(
    near: impl AsyncRead + AsyncWrite + Send + 'static,
    far: impl AsyncRead + AsyncWrite + Send + 'static,
) {
    let tasks = Tasks::default();
    let here = Arc::new(Double::with(events(1, 700)));
    let there = Arc::new(Double::with(events(2, 900)));
    let one = tasks.link(near, 2, &here, LinkConfig::new(1));
    let other = tasks.link(far, 1, &there, LinkConfig::new(1));
    // Both begin at once, with the same session ids.
    let (mine, yours) = tokio::join!(one.sync(fleet()), other.sync(fleet()));
    for report in [mine.unwrap(), yours.unwrap()] {
        assert!(matches!(report.end, End::Complete), "{report:?}");
    }
    assert_eq!(here.ids(), there.ids());
    assert_eq!(here.ids().len(), 1_600);
    // What is written later goes the next time, and nothing else does.
    there.add(events(3, 10));
    let report = one.sync(fleet()).await.unwrap();
    assert_eq!((report.fetched, report.pushed, here.ids()), (10, 0, there.ids()));
    let report = one.sync(Space::private()).await.unwrap();
    assert!(matches!(report.end, End::Private));
    // A link that nobody calls any more still answers.
    drop(one);
    here.add(events(4, 5));
    assert_eq!(other.sync(fleet()).await.unwrap().fetched, 5);
    tasks.end().await;
    assert!(matches!(other.sync(fleet()).await, Err(LinkError::Closed)));
}

#[tokio::test]
async fn replicas_sync_both_ways_over_a_pipe_that_holds_little() {
    let (near, far) = duplex(1_000);
    both_ways(near, far).await;
}

#[tokio::test]
async fn replicas_sync_both_ways_over_tcp() {
    let (near, far) = pair().await;
    both_ways(near, far).await;
}

#[tokio::test]
async fn a_peer_that_goes_in_the_middle_closes_the_link() {
    let (near, mut far) = pair().await;
    let tasks = Tasks::default();
    let here = Arc::new(Double::with(events(1, 10)));
    let link = tasks.link(near, 2, &here, LinkConfig::new(1));
    let leave = async {
        read_frame(&mut far, LONG, LONG).await.unwrap().unwrap();
        far.write_all(&[0, 0, 1, 0, b'[']).await.unwrap();
        drop(far);
    };
    let (result, ()) = tokio::join!(link.sync(fleet()), leave);
    assert!(matches!(result, Err(LinkError::Closed)));
    link.closed().await;
    tasks.end().await;
}

#[tokio::test]
async fn a_silent_and_a_slow_peer_end_by_time_out() {
    let short = Duration::from_millis(50);
    for sent in [&b""[..], &[0, 0][..], &[0, 0, 0, 9, b'['][..]] {
        let (near, mut far) = pair().await;
        let tasks = Tasks::default();
        let config = LinkConfig { idle: short, whole: short, ..LinkConfig::new(1) };
        let link = tasks.link(near, 2, &Arc::new(Double::default()), config);
        far.write_all(sent).await.unwrap();
        link.closed().await;
        tasks.end().await;
    }
    // One that takes nothing.
    let (near, _far) = duplex(10);
    let tasks = Tasks::default();
    let config = LinkConfig { whole: short, ..LinkConfig::new(1) };
    let link = tasks.link(near, 2, &Arc::new(Double::with(events(1, 100))), config);
    assert!(matches!(link.sync(fleet()).await, Err(LinkError::Closed)));
    tasks.end().await;
    // One that takes all and answers with what is no answer.
    let (near, mut far) = duplex(100_000);
    let tasks = Tasks::default();
    let patience = Patience { first_ms: 50, longest_ms: 50, tries: 1 };
    let config = LinkConfig { patience, ..LinkConfig::new(1) };
    let link = tasks.link(near, 2, &Arc::new(Double::default()), config);
    let strays = async {
        while write_frame(&mut far, br#"["DIFF","0000000000000009",1,"61"]"#, LONG).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let report = tokio::select! {
        report = link.sync(fleet()) => report.unwrap(),
        () = strays => panic!("the link is closed"),
    };
    assert!(matches!(report.end, End::GaveUp), "{report:?}");
    assert!(report.strays > 0);
    tasks.end().await;
}

#[tokio::test]
async fn a_frame_that_announces_too_much_and_a_flood_of_nonsense_close_the_link() {
    let (near, mut far) = pair().await;
    let tasks = Tasks::default();
    let link = tasks.link(near, 2, &Arc::new(Double::default()), LinkConfig::new(1));
    far.write_all(&u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes()).await.unwrap();
    link.closed().await;

    let (near, mut far) = pair().await;
    let link = tasks.link(near, 2, &Arc::new(Double::default()), LinkConfig::new(1));
    while write_frame(&mut far, b"nonsense", LONG).await.is_ok() {}
    link.closed().await;
    tasks.end().await;
}

#[tokio::test]
async fn a_newer_version_is_told_what_is_spoken_here() {
    let (near, mut far) = pair().await;
    let tasks = Tasks::default();
    let _link = tasks.link(near, 2, &Arc::new(Double::default()), LinkConfig::new(1));
    write_frame(&mut far, br#"["NEG",9,"00000000000000ff",3,"fleet","61",{}]"#, LONG).await.unwrap();
    let answer = read_frame(&mut far, LONG, LONG).await.unwrap().unwrap();
    let Message::Reply(reply) = Message::parse(&answer).unwrap() else { panic!() };
    assert_eq!((reply.session.0, reply.number), (255, 3));
    assert!(matches!(reply.body, memory::sync::ReplyBody::Failed { code: ErrorCode::Version, .. }));
    tasks.end().await;
}
