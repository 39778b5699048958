//! From the static model to MiniLM and on, while questions go on.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::super::testing::*;
use super::super::*;
use crate::embed::{EmbedError, MiniLmEmbedder, StaticEmbedder};

const MINILM: &str = "minilm-256/1";

/// MiniLM that embeds as often as it is allowed to. It lets questions through.
struct Gated {
    inner: MiniLmEmbedder,
    allowed: Semaphore,
    calls: AtomicUsize,
}

impl Gated {
    fn new() -> Arc<Self> {
        let dir = Path::new("model/minilm-256");
        let inner = MiniLmEmbedder::open(dir).unwrap();
        Arc::new(Self { inner, allowed: Semaphore::new(0), calls: AtomicUsize::new(0) })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }
}

#[async_trait]
impl Embedder for Gated {
    fn id(&self) -> String {
        self.inner.id()
    }

    fn dimensions(&self) -> Option<usize> {
        self.inner.dimensions()
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        let Ok(allowed) = self.allowed.acquire().await else { panic!("it is never closed") };
        allowed.forget();
        self.inner.embed(texts).await
    }

    async fn embed_question(&self, question: &str) -> Result<Vec<f32>, EmbedError> {
        self.inner.embed_question(question).await
    }
}

const TOLD: [(&str, &str); 4] = [
    ("The boiler in the cellar was serviced by Mr Hansen in March.", "who repaired the heating"),
    ("Lena is allergic to peanuts and carries an injector.", "which foods must she avoid"),
    ("Our train to Hamburg leaves at seven in the morning.", "when do we depart by rail"),
    ("Grandmother's apple cake takes two hundred grams of butter.", "recipe for baking a dessert"),
];

fn truth() -> Arc<Truth> {
    let truth = Truth::default();
    (0..).zip(TOLD).for_each(|(n, (text, _))| truth.put(entry(n, text)));
    (100..240).for_each(|n| truth.put(entry(n, &format!("Barrel {n} holds herring"))));
    Arc::new(truth)
}

/// By meaning alone, each question finds its entry first.
async fn all_are_found(running: &Running) {
    for (n, (text, question)) in (0..).zip(TOLD) {
        let found = running.find(question, Mode::Vector).await;
        assert_eq!(found.first(), Some(&id(n)), "{question} ↛ {text}");
    }
}

#[tokio::test]
async fn minilm_takes_over_in_the_background_and_questions_stay_with_the_static_model() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), truth(), Arc::new(StaticEmbedder::new()));
    running.index.healed().await.unwrap();
    all_are_found(&running).await;
    running.stop().await;

    let minilm = Gated::new();
    let running = Running::start(dir.path(), truth(), minilm.clone());
    running.index.healed().await.unwrap();
    running.until(|_| minilm.calls() == 1).await;
    all_are_found(&running).await;
    // It answers, and has made the first part of the vectors.
    minilm.allowed.add_permits(2);
    let stats = running.until(|_| minilm.calls() == 3).await;
    assert_eq!((stats.embedder.as_str(), stats.state), ("static-256-int8/1", IndexState::Rebuilding));
    all_are_found(&running).await;
    running.add([entry(50, "The dentist moved the appointment to Thursday.")]).await;
    running.truth.take(&id(101));
    running.index.apply(vec![IndexChange::Remove(id(101))]).await.unwrap();
    assert_eq!(running.find("visit for my teeth", Mode::Vector).await.first(), Some(&id(50)));

    minilm.allowed.add_permits(Semaphore::MAX_PERMITS / 2);
    let is_there = |stats: &IndexStats| stats.embedder == MINILM && stats.unembedded == 0;
    let stats = running.until(|stats| is_there(stats) && stats.state == IndexState::Ready).await;
    assert_eq!((stats.rows, stats.failures), (144, 0));
    let calls = minilm.calls();
    all_are_found(&running).await;
    assert_eq!(running.find("visit for my teeth", Mode::Vector).await.first(), Some(&id(50)));
    assert_eq!(minilm.calls(), calls, "no question went through it");
    running.add([entry(51, "The garden hose is in the blue shed.")]).await;
    assert_eq!(running.find("blue shed", Mode::Text).await.first(), Some(&id(51)), "words find it at once");
    running.until(|stats| stats.unembedded == 0).await;
    assert!(running.find("where can I water the plants", Mode::Vector).await.contains(&id(51)));
    running.stop().await;
}

#[tokio::test]
async fn vectors_that_minilm_made_answer_until_another_embedder_has_made_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let minilm = Gated::new();
    minilm.allowed.add_permits(Semaphore::MAX_PERMITS / 2);
    let running = Running::start(dir.path(), truth(), minilm);
    running.until(|stats| stats.embedder == MINILM && stats.state == IndexState::Ready).await;
    running.stop().await;

    // Its files are not named any more, and the other one does not answer yet.
    let far = Far::new(false, 300);
    let running = Running::start(dir.path(), truth(), far.clone());
    running.index.healed().await.unwrap();
    running.until(|_| far.calls.load(Ordering::Acquire) > 0).await;
    assert_eq!(running.index.stats().await.embedder, MINILM);
    all_are_found(&running).await;
    running.add([entry(52, "The garden hose is in the blue shed.")]).await;
    assert_eq!(running.find("blue shed", Mode::Text).await.first(), Some(&id(52)));
    far.is_up.store(true, Ordering::Release);
    running.until(|stats| stats.embedder == "far:300" && stats.unembedded == 0).await;
    all_are_found(&running).await;
    assert_eq!(running.find("blue shed", Mode::Vector).await.first(), Some(&id(52)));
    running.stop().await;
}
