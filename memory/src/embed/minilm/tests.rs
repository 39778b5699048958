//! The model of `memory/model/minilm-256`, against what is known of it; and folders that are not such a model.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn folder() -> PathBuf {
    std::path::absolute("model/minilm-256").unwrap()
}

/// Read once for all tests.
static SHARED: LazyLock<MiniLmEmbedder> = LazyLock::new(|| MiniLmEmbedder::open(folder()).unwrap());

fn embed(texts: &[&str]) -> Vec<Vec<f32>> {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    SHARED.embed_now(&texts, &CancellationToken::new()).unwrap()
}

fn model() -> Arc<Model> {
    embed(&[]);
    SHARED.model.lock().unwrap().clone().unwrap()
}

/// Of 384 numbers, before the projection.
fn own_cosine(a: &str, b: &str) -> f32 {
    let model = model();
    let tokens = [model.tokens(a).unwrap(), model.tokens(b).unwrap()];
    let means = model.network.means(&[&tokens[0], &tokens[1]]).unwrap().to_vec2::<f32>().unwrap();
    let units: Vec<Vec<f32>> = means.into_iter().map(|mean| unit(mean).unwrap()).collect();
    dot(&units[0], &units[1])
}

#[test]
fn the_network_is_the_published_one() {
    // The cosines that the model's own card and the documentation of sentence-transformers show, of 32-bit weights.
    for (a, b, published) in [
        ("That is a happy person", "That is a happy dog", 0.6946),
        ("That is a happy person", "That is a very happy person", 0.9429),
        ("That is a happy person", "Today is a sunny day", 0.2569),
        ("The weather is lovely today.", "It's so sunny outside!", 0.6660),
        ("The weather is lovely today.", "He drove to the stadium.", 0.1046),
    ] {
        let cosine = own_cosine(a, b);
        assert!((cosine - published).abs() < 0.01, "{a} / {b}: {cosine} instead of {published}");
    }
}

#[test]
fn the_vectors_are_those_of_the_numpy_program_on_the_same_files() {
    // `teacher.py` on the unpacked weights, times the projection: the first eight numbers.
    let person = [0.247491, 0.222334, -0.016372, -0.059411, 0.056426, 0.044127, 0.033615, -0.096966];
    let weather = [0.109281, 0.158322, -0.141384, 0.005837, 0.142249, -0.082800, -0.004918, -0.048074];
    let made = embed(&["That is a happy person", "The weather is lovely today."]);
    for (made, right) in made.iter().zip([person, weather]) {
        assert_eq!(made.len(), 256);
        assert!((dot(made, made) - 1.0).abs() < 1e-4);
        for (a, b) in made.iter().zip(right) {
            assert!((a - b).abs() < 1e-3, "{:?} instead of {right:?}", &made[..8]);
        }
    }
}

#[test]
fn company_in_a_batch_changes_no_vector() {
    let mut texts: Vec<String> =
        (0..40).map(|n| format!("note {n} about gardens {}", "and sheds ".repeat(n))).collect();
    texts.push("short".to_owned());
    texts.push(String::new());
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = embed(&refs);
    for (at, text) in refs.iter().enumerate() {
        let alone = embed(&[text]).remove(0);
        let cosine = dot(&alone, &together[at]);
        assert!(text.is_empty() || cosine > 0.999_99, "{text}: {cosine}");
    }
    // In the order of the texts, whatever the order of the batches.
    let reversed: Vec<&str> = refs.iter().rev().copied().collect();
    let reversed = embed(&reversed);
    assert!(reversed.iter().rev().zip(&together).take(41).all(|(a, b)| dot(a, b) > 0.999_99));
}

#[test]
fn batches_hold_every_text_once_and_stay_below_their_bound() {
    let lengths = [300, 3, 0, 256, 7, 256, 256, 256, 256, 3, 0, 1];
    let tokens: Vec<Vec<u32>> = lengths.iter().map(|length| vec![1; *length]).collect();
    let batches = batches(&tokens);
    let mut all: Vec<usize> = batches.iter().flatten().copied().collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 3, 4, 5, 6, 7, 8, 9, 11], "those without tokens are in none");
    for batch in &batches {
        let longest = batch.iter().map(|at| lengths[*at]).max().unwrap();
        assert!(batch.len() == 1 || batch.len() * longest <= BATCH_TOKENS, "{batches:?}");
    }
}

#[tokio::test]
async fn a_question_to_the_static_model_finds_the_text_that_minilm_has_read() {
    let told = [
        "The boiler in the cellar was serviced by Mr Hansen in March.",
        "Lena is allergic to peanuts and carries an injector.",
        "The wifi password of the office is written under the router.",
        "Our train to Hamburg leaves at seven in the morning.",
        "The landlord wants the rent by bank transfer on the first.",
        "Grandmother's apple cake takes two hundred grams of butter.",
    ];
    let entries = SHARED.embed(&told.map(str::to_owned)).await.unwrap();
    let own = StaticEmbedder::new();
    for (question, right) in [
        ("who repaired the heating", 0),
        ("which foods must Lena avoid", 1),
        ("how do I get onto the wireless network at work", 2),
        ("when do we depart by rail", 3),
        ("when is the payment for the flat due", 4),
        ("recipe for baking a dessert", 5),
    ] {
        let asked = SHARED.embed_question(question).await.unwrap();
        let statically = own.embed(&[question.to_owned()]).await.unwrap().remove(0);
        assert_eq!(asked, statically, "a question goes through the static model");
        let cosines: Vec<f32> = entries.iter().map(|entry| dot(&asked, entry)).collect();
        let best = (0..told.len()).max_by(|a, b| cosines[*a].total_cmp(&cosines[*b])).unwrap();
        assert_eq!(best, right, "{question}: {cosines:?}");
    }
}

#[test]
fn what_says_nothing_is_all_zeros() {
    let nothing = ["", " \n\t", "\u{0}\u{1}\u{7f}", "🦀🦀", "ሰላም ለዓለም ሁሉ", "ကမ္ဘာ မြေ"];
    for (vector, text) in embed(&nothing).iter().zip(nothing) {
        assert!(vector.len() == 256 && vector.iter().all(|x| *x == 0.0), "{text:?}");
    }
    let said = ["[SEP]", "[PAD] [PAD]", "привет мир", "漢字かな", "مرحبا", "cafe 🦀"];
    for (vector, text) in embed(&said).iter().zip(said) {
        assert!((dot(vector, vector) - 1.0).abs() < 1e-4, "{text:?}");
    }
}

#[test]
fn a_huge_text_is_its_beginning() {
    let model = model();
    let filled = |text: &str| model.tokens(beginning(text, MAX_TEXT_BYTES)).unwrap().len();
    assert_eq!(filled(&"the quick brown fox ".repeat(10_000)), MAX_TOKENS, "neither 128 of the file nor more");
    let huge = "the quick brown fox ".repeat(10_000);
    let other = format!("{}{}", &huge[..4_000], "zebras like cold pianos ".repeat(5_000));
    let vectors = embed(&[&huge, &other, &"x".repeat(200_000), &"漢字かな交じり文".repeat(10_000)]);
    assert_eq!(vectors[0], vectors[1], "what comes after {MAX_TOKENS} tokens is not read");
    assert!(vectors[2].iter().all(|x| *x == 0.0), "one word of 200,000 letters is unknown");
    assert!((dot(&vectors[3], &vectors[3]) - 1.0).abs() < 1e-4);
}

#[tokio::test]
async fn it_says_what_it_is_and_reads_nothing_for_a_question() {
    let embedder = MiniLmEmbedder::open(folder()).unwrap();
    assert_eq!((embedder.id().as_str(), embedder.dimensions()), ("minilm-256/1", Some(256)));
    assert!(!embedder.is_instant());
    assert_eq!(embedder.embed_question("where is the key").await.unwrap().len(), 256);
    assert!(embedder.model.lock().unwrap().is_none(), "the model is not in memory");
    let questions = MiniLmQuestions::new();
    assert_eq!((questions.id(), questions.dimensions()), (embedder.id(), embedder.dimensions()));
    let asked = questions.embed_question("where is the key").await.unwrap();
    assert_eq!(asked, embedder.embed_question("where is the key").await.unwrap());
    assert!(matches!(questions.embed(&["x".to_owned()]).await, Err(EmbedError::Unreachable { .. })));
}

#[test]
fn it_ends_at_the_next_batch_when_nobody_waits() {
    let given_up = CancellationToken::new();
    let texts = vec!["a text".to_owned(); 8];
    assert_eq!(SHARED.embed_now(&texts, &given_up).unwrap().len(), 8);
    given_up.cancel();
    assert!(SHARED.embed_now(&texts, &given_up).is_err());
}

/// A copy of the folder, with one file changed.
fn spoilt(name: &str, spoil: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in [WEIGHTS, TOKENIZER, PROJECTION] {
        let from = folder().join(file);
        if file != name {
            std::os::unix::fs::symlink(&from, dir.path().join(file)).unwrap();
        }
    }
    if let Some(bytes) = spoil(std::fs::read(folder().join(name)).unwrap()) {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// Replaces words in the header of a safetensors file by others of the same length.
fn renamed(mut bytes: Vec<u8>, from: &str, to: &str) -> Option<Vec<u8>> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    Some(bytes)
}

#[test]
fn files_that_are_missing_damaged_or_of_another_model_are_named() {
    let cut = |bytes: Vec<u8>| Some(bytes[..bytes.len() / 2].to_vec());
    let cases: Vec<(&str, tempfile::TempDir, &str)> = vec![
        (WEIGHTS, spoilt(WEIGHTS, |_| None), "cannot read"),
        (TOKENIZER, spoilt(TOKENIZER, |_| None), "cannot read"),
        (PROJECTION, spoilt(PROJECTION, |_| None), "cannot read"),
        (WEIGHTS, spoilt(WEIGHTS, cut), "is damaged"),
        (TOKENIZER, spoilt(TOKENIZER, cut), "is damaged"),
        (PROJECTION, spoilt(PROJECTION, cut), "is damaged"),
        (WEIGHTS, spoilt(WEIGHTS, |_| Some(Vec::new())), "is damaged"),
        (PROJECTION, spoilt(PROJECTION, |_| Some(vec![0xff; 64])), "is damaged"),
        (PROJECTION, spoilt(PROJECTION, |_| Some(vec![0; PROJECTION_MAX + 1])), "too large"),
        (PROJECTION, spoilt(PROJECTION, |bytes| renamed(bytes, "[384,256]", "[256,384]")), "[256, 384] instead of"),
        (PROJECTION, spoilt(PROJECTION, |bytes| renamed(bytes, "projection", "projektion")), "projection is missing"),
        (WEIGHTS, spoilt(WEIGHTS, |bytes| renamed(bytes, "layer.5", "layer.9")), "encoder.layer.5"),
        (WEIGHTS, spoilt(WEIGHTS, |bytes| renamed(bytes, "\"I8\"", "\"U8\"")), "instead of I8"),
        (TOKENIZER, spoilt(TOKENIZER, |_| Some(b"{}".to_vec())), "is damaged"),
    ];
    for (name, dir, words) in &cases {
        let error = MiniLmEmbedder::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(words), "{name}, {words}: {error}");
    }
    let nan = spoilt(PROJECTION, |mut bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        Some(bytes)
    });
    assert!(MiniLmEmbedder::open(nan.path()).unwrap_err().to_string().contains("not finite"));
}

#[tokio::test]
async fn a_model_whose_vectors_lie_elsewhere_is_refused_when_it_is_read() {
    // The rows of the projection in another order: every shape is right, every number finite.
    let turned = spoilt(PROJECTION, |mut bytes| {
        let start = bytes.len() - WIDTH * DIMENSIONS * 4;
        bytes[start..].rotate_left(100 * DIMENSIONS * 4);
        Some(bytes)
    });
    let embedder = MiniLmEmbedder::open(turned.path()).unwrap();
    let error = embedder.embed(&["text".to_owned()]).await.unwrap_err().to_string();
    assert!(error.contains("minilm-256/1") && error.contains("do not fit"), "{error}");
    // And files that go away after they were checked are an error, not a panic; put back, they serve.
    let dir = spoilt(PROJECTION, Some);
    let embedder = MiniLmEmbedder::open(dir.path()).unwrap();
    let (there, away) = (dir.path().join(PROJECTION), dir.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    let error = embedder.embed(&["text".to_owned()]).await.unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains(PROJECTION), "{error}");
    std::fs::rename(&away, &there).unwrap();
    assert_eq!(embedder.embed(&["text".to_owned()]).await.unwrap().len(), 1);
}

proptest! {
    // A text takes milliseconds here, more in a build without optimisation.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_breaks_it(text in any::<String>()) {
        let vector = embed(&[&text]).remove(0);
        let length = dot(&vector, &vector);
        prop_assert!(length == 0.0 || (length - 1.0).abs() < 1e-3, "{}", length);
    }
}
