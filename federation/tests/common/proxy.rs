//! A UDP path that loses and delays, or is cut, between a client and one server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

#[derive(Default)]
pub struct Path {
    /// Datagrams lost, of a thousand.
    pub loss_permille: AtomicU64,
    /// Each is delayed by 1 to this many milliseconds.
    pub delay_ms: AtomicU64,
    pub cut: AtomicBool,
    pub passed: AtomicU64,
    pub lost: AtomicU64,
    seed: AtomicU64,
}

impl Path {
    fn random(&self) -> u64 {
        // SplitMix64.
        let mut z = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The delay of one datagram; `None` when it is lost.
    fn fate(&self) -> Option<Duration> {
        let lost = self.random() % 1_000 < self.loss_permille.load(Ordering::Relaxed);
        if lost || self.cut.load(Ordering::Relaxed) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.passed.fetch_add(1, Ordering::Relaxed);
        let most = self.delay_ms.load(Ordering::Relaxed);
        Some(Duration::from_millis(if most == 0 { 0 } else { 1 + self.random() % most }))
    }
}

/// Runs until dropped.
pub struct Proxy {
    pub addr: SocketAddr,
    pub path: Arc<Path>,
    _task: JoinSet<()>,
}

impl Proxy {
    pub async fn start(server: SocketAddr, seed: u64) -> Self {
        eprintln!("proxy seed {seed}");
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let addr = front.local_addr().unwrap();
        let path = Arc::new(Path { seed: AtomicU64::new(seed), ..Path::default() });
        let mut task = JoinSet::new();
        task.spawn(serve(front, server, Arc::clone(&path)));
        Self { addr, path, _task: task }
    }
}

async fn serve(front: Arc<UdpSocket>, server: SocketAddr, path: Arc<Path>) {
    let backs: Mutex<BTreeMap<SocketAddr, Arc<UdpSocket>>> = Mutex::default();
    let mut tasks = JoinSet::new();
    let mut buf = vec![0; 65_536];
    loop {
        let Ok((len, client)) = front.recv_from(&mut buf).await else { continue };
        let known = backs.lock().unwrap().get(&client).cloned();
        let back = match known {
            Some(back) => back,
            None => {
                let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                backs.lock().unwrap().insert(client, Arc::clone(&back));
                tasks.spawn(answers(Arc::clone(&back), Arc::clone(&front), client, Arc::clone(&path)));
                back
            }
        };
        if let Some(delay) = path.fate() {
            let bytes = buf[..len].to_vec();
            tasks.spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = back.send_to(&bytes, server).await;
            });
        }
        while tasks.try_join_next().is_some() {}
    }
}

async fn answers(back: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr, path: Arc<Path>) {
    let mut tasks = JoinSet::new();
    let mut buf = vec![0; 65_536];
    loop {
        let Ok((len, _)) = back.recv_from(&mut buf).await else { continue };
        if let Some(delay) = path.fate() {
            let (bytes, front) = (buf[..len].to_vec(), Arc::clone(&front));
            tasks.spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = front.send_to(&bytes, client).await;
            });
        }
        while tasks.try_join_next().is_some() {}
    }
}
