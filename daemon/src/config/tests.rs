use super::*;

#[test]
fn the_reference_says_the_defaults() {
    let reference = Config::parse(REFERENCE).unwrap();
    assert_eq!(reference, Config::default());
}

#[test]
fn the_example_with_every_key_parses_or_is_not_built_yet() {
    let all = r#"
        [node]
        listen = "[::1]:7777"
        trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]
        public_url = "wss://t.example/"
        identities = ["github:tim:123"]
        [owner]
        npub = "npub10xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqpkge6d"
        country = "DE"
        [embedder]
        kind = "openai"
        base_url = "https://embed.example/v1"
        model = "m"
        api_key_file = "/k"
        [[models]]
        name = "a"
        base_url = "http://127.0.0.1:11434/v1"
        model = "m"
        [[models]]
        name = "b"
        base_url = "https://api.example/v1"
        model = "m"
        api_key_file = "/k"
    "#;
    let config = Config::parse(all).unwrap();
    assert_eq!((config.models[0].serves(), config.models[0].sees_memory()), (Serves::Anyone, true));
    assert_eq!((config.models[1].serves(), config.models[1].sees_memory()), (Serves::People, false));
    assert_eq!(config.embedder.unasked(), Some("embed.example"));
    let said_yes = Config::parse(
        &all.replace("api_key_file = \"/k\"\n        [[models]]", "sees_memory = true\n        [[models]]"),
    );
    assert_eq!(said_yes.unwrap().embedder.unasked(), None);
    assert!(config.node.trusted_proxies[1].contains("::ffff:10.2.3.4".parse().unwrap()));
    assert!(!config.node.trusted_proxies[0].contains("127.0.0.2".parse().unwrap()));
}

#[test]
fn mistakes_are_named_with_their_cure() {
    for (text, words) in [
        ("[node]\nnmae = \"x\"", "did you mean `name`"),
        ("[nodes]\nname = \"x\"", "did you mean `node`"),
        ("[relay]\nzzzzzzzzzzzz = 1", "unknown key `relay.zzzzzzzzzzzz`"),
        ("[node]\nname = \"Big Name\"", "node.name"),
        ("[node]\nlisten = []", "at least one address"),
        ("[node]\npublic_url = \"https://x.y\"", "wss://"),
        ("[dvm]\nkinds = [1]", "5000–5999"),
        ("[matrix]\nuser = \"alice\"", "matrix.user"),
        ("[voice]\nurl = \"http://127.0.0.1\"", "voice.url"),
        ("[voice]\nhears = \"w\"", "voice.base_url"),
        ("[voice]\nbase_url = \"http://127.0.0.1/v1\"", "hears"),
        ("[tools]\nmcp = [{ name = \"a b\", command = [\"x\"] }]", "a-z"),
        ("[tools]\nmcp = [{ name = \"a\" }]", "either a command or a url"),
        ("[tools]\nmcp = [{ name = \"a\", comand = [\"x\"] }]", "comand"),
        ("[tools]\nmcp = [{ name = \"a\", command = [\"x\"], for = [\"bob\"] }]", "npub"),
        ("[tools]\nskill = \"x\"", "did you mean `skills`"),
        ("[[tools.wasm]]\nname = \"a\"\nfile = \"a\"\ndescription = \"\"\nparameters = \"[]\"", "JSON Schema"),
        ("[owner]\nattestation = [\"auth\", \"x\"]", "owner.attestation"),
        ("[federation]\nlease_s = 0", "federation.lease_s"),
        ("[federation]\nauction_ms = 20000", "federation.auction_ms"),
        ("[embedder]\nkind = \"fast\"", "static"),
        ("[embedder]\nkind = \"openai\"", "embedder.base_url"),
        ("[embedder]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1/v1\"", "embedder.model"),
        ("[embedder]\nkind = \"openai\"\nbase_url = \"ftp://h/v1\"\nmodel = \"m\"", "http"),
        ("[embedder]\nmodel = \"m\"", "kind = \"openai\""),
        ("[embedder]\nkind = \"minilm\"", "embedder.model_dir"),
        ("[embedder]\nkind = \"minilm\"\nmodel_dir = \"\"", "embedder.model_dir"),
        ("[embedder]\nkind = \"minilm\"\nmodel_dir = \"/m\"\nmodel = \"m\"", "embedder.model is for kind = \"openai\""),
        ("[embedder]\nmodel_dir = \"/m\"", "kind = \"minilm\""),
        (
            "[embedder]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1/v1\"\nmodel = \"m\"\nmodel_dir = \"/m\"",
            "kind = \"minilm\"",
        ),
        ("[embedder]\nkind = \"minilm\"\nmodel_di = \"/m\"", "did you mean `model_dir`"),
        ("[owner]\ncountry = \"Germany\"", "two-letter"),
        ("[owner]\nnpub = \"npub1wrong\"", "npub"),
        ("[node\n", "expected"),
        (
            "[[models]]\nname = \"a\"\nbase_url = \"http://h/v1\"\nmodel = \"m\"\nkey = \"sk-1\"",
            "unknown key `models.key`",
        ),
    ] {
        let error = Config::parse(text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn minilm_is_named_by_its_folder_and_reads_nothing_elsewhere() {
    let config = Config::parse("[embedder]\nkind = \"minilm\"\nmodel_dir = \"/srv/minilm\"").unwrap();
    assert_eq!(config.embedder.kind, EmbedderKind::Minilm);
    assert_eq!(config.embedder.model_dir.as_deref(), Some(Path::new("/srv/minilm")));
    assert_eq!(config.embedder.unasked(), None);
    assert_eq!(Config::parse(&config.show().unwrap()).unwrap(), config);
}

#[test]
fn what_is_shown_parses_again() {
    let config = Config::parse("[nostr]\nrelays = [\"wss://r.example\"]").unwrap();
    assert_eq!(Config::parse(&config.show().unwrap()).unwrap(), config);
}
