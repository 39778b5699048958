//! Tools in WebAssembly, for code that is not trusted: it gets one text and gives one text, and can do nothing else.
//!
//! There are no imports at all: no files, no network, no clock, no environment. Each call has a fresh instance with bounded
//! instructions (fuel), memory, stack and time, so a call leaves nothing behind for the next one.
//!
//! A module exports `memory`, `alloc(len: i32) -> i32` (where `len` bytes may be written) and `call(at: i32, len: i32) -> i64`
//! (the arguments, JSON in UTF-8, are there; the result is `at << 32 | len` of a text).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use wasmtime::{Config, Engine, Instance, Memory, Module, Store, StoreLimits, StoreLimitsBuilder, Trap};

use super::{Arguments, Caller, RESULT_BYTES_MAX, Risk, Tool, ToolCard, ToolError, wire_name};
use crate::model::ToolOffer;

/// The largest module, bytes.
const MODULE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The stack of a call, bytes.
const STACK_BYTES: usize = 512 * 1024;
/// How often the time of running calls is looked at.
const TICK: Duration = Duration::from_millis(50);
/// The most entries of a module's table.
const TABLE_MAX: usize = 10_000;

/// A tool as the owner configured it.
#[derive(Debug, Clone, PartialEq)]
pub struct WasmConfig {
    /// The tool's name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
    /// The module, binary.
    pub file: PathBuf,
    /// Instructions of one call.
    pub fuel: u64,
    /// Memory of one call, bytes.
    pub memory_bytes: usize,
    /// Time of one call.
    pub time: Duration,
}

/// Why a module is not taken.
#[derive(Debug, thiserror::Error)]
pub enum WasmError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// It is no module, or one that is not taken.
    #[error("{0}: {1}")]
    Module(PathBuf, String),
}

/// One tool.
pub struct WasmTool {
    config: WasmConfig,
    module: Module,
}

impl WasmTool {
    /// Reads and compiles a module. Takes a second or so for a large one.
    ///
    /// # Errors
    /// When the file cannot be read, is no module, wants anything from outside, or lacks what a tool must export.
    pub fn load(config: WasmConfig) -> Result<Self, WasmError> {
        let file = config.file.clone();
        let bytes = read(&file).map_err(|error| WasmError::Read(file.clone(), error))?;
        let module = compiled(&bytes).map_err(|why| WasmError::Module(file, why))?;
        Ok(Self { config, module })
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(file)?.len() > MODULE_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "a module has at most 16 MiB"));
    }
    std::fs::read(file)
}

fn compiled(bytes: &[u8]) -> Result<Module, String> {
    let mut config = Config::new();
    config.consume_fuel(true).epoch_interruption(true).max_wasm_stack(STACK_BYTES);
    config.wasm_memory64(false).wasm_multi_memory(false);
    let engine = Engine::new(&config).map_err(|error| error.to_string())?;
    let module = Module::new(&engine, bytes).map_err(|error| format!("{error:#}"))?;
    if let Some(import) = module.imports().next() {
        return Err(format!("it wants `{}` of `{}` from outside; a tool gets nothing", import.name(), import.module()));
    }
    for name in ["memory", "alloc", "call"] {
        if module.get_export(name).is_none() {
            return Err(format!("it exports no `{name}`"));
        }
    }
    watch_time(&engine).map_err(|error| error.to_string())?;
    Ok(module)
}

/// Counts the time of an engine's calls, as long as it lives.
fn watch_time(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("wasm-time".to_owned()).spawn(tick).map(drop)
}

/// One call in a fresh instance.
fn run(module: &Module, config: &WasmConfig, arguments: &str) -> Result<String, String> {
    let limits = StoreLimitsBuilder::new()
        .memory_size(config.memory_bytes)
        .table_elements(TABLE_MAX)
        .instances(1)
        .memories(1)
        .tables(4)
        .build();
    let mut store: Store<StoreLimits> = Store::new(module.engine(), limits);
    store.limiter(|limits| limits);
    let failed = |error: wasmtime::Error| why(&error);
    store.set_fuel(config.fuel).map_err(failed)?;
    let ticks = config.time.as_millis() / TICK.as_millis() + 1;
    store.set_epoch_deadline(u64::try_from(ticks).unwrap_or(u64::MAX));
    let instance = Instance::new(&mut store, module, &[]).map_err(failed)?;
    let memory = instance.get_memory(&mut store, "memory").ok_or("its `memory` is none")?;
    let alloc = instance.get_typed_func::<i32, i32>(&mut store, "alloc").map_err(failed)?;
    let call = instance.get_typed_func::<(i32, i32), i64>(&mut store, "call").map_err(failed)?;
    let len = i32::try_from(arguments.len()).map_err(|_| "the arguments are too long")?;
    let at = alloc.call(&mut store, len).map_err(failed)?;
    memory
        .write(&mut store, at.cast_unsigned() as usize, arguments.as_bytes())
        .map_err(|_| "it gave a place outside its memory")?;
    let result = call.call(&mut store, (at, len)).map_err(failed)?;
    text_at(&store, memory, result.cast_unsigned())
}

fn text_at(store: &Store<StoreLimits>, memory: Memory, place: u64) -> Result<String, String> {
    let outside = "its result lies outside its memory";
    let start = usize::try_from(place >> 32).map_err(|_| outside)?;
    let len = usize::try_from(place & u64::from(u32::MAX)).map_err(|_| outside)?;
    if len > RESULT_BYTES_MAX {
        return Err(format!("its result is longer than {RESULT_BYTES_MAX} bytes"));
    }
    let end = start.checked_add(len).ok_or(outside)?;
    let bytes = memory.data(store).get(start..end).ok_or(outside)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| "its result is no text".to_owned())
}

/// Why a call ended, in a few words.
fn why(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => "it used up its instructions".to_owned(),
        Some(Trap::Interrupt) => "it took too long".to_owned(),
        Some(trap) => format!("it broke down: {trap}"),
        None => format!("{error:#}"),
    }
}

#[async_trait]
impl Tool for WasmTool {
    fn card(&self) -> ToolCard {
        // Its words are its author's.
        let offer =
            ToolOffer::new(&wire_name(&[&self.config.name]), &self.config.description, self.config.parameters.clone());
        ToolCard { offer, is_private: false, is_from_outside: true }
    }

    /// It can reach nothing.
    fn risk(&self, _: &Arguments, _: &Caller<'_>) -> Risk {
        Risk::None
    }

    async fn call(&self, arguments: &Arguments, _: &Caller<'_>) -> Result<String, ToolError> {
        let (module, config) = (self.module.clone(), Arc::new(self.config.clone()));
        let arguments = Value::Object(arguments.clone()).to_string();
        let done = tokio::task::spawn_blocking(move || run(&module, &config, &arguments)).await;
        done.map_err(|error| ToolError::Failed(error.to_string()))?.map_err(ToolError::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each module begins with: one page of memory, and arguments are put at 1024.
    const HEAD: &str =
        r#"(module (memory (export "memory") 1) (func (export "alloc") (param i32) (result i32) i32.const 1024)"#;

    fn config() -> WasmConfig {
        WasmConfig {
            name: "t".into(),
            description: String::new(),
            parameters: Value::Null,
            file: PathBuf::new(),
            fuel: 10_000_000,
            memory_bytes: 1024 * 1024,
            time: Duration::from_secs(5),
        }
    }

    fn answer_of(config: &WasmConfig, wat: &str) -> Result<String, String> {
        run(&compiled(&wat::parse_str(wat).unwrap())?, config, r#"{"a":1}"#)
    }

    fn called(body: &str) -> Result<String, String> {
        answer_of(&config(), &format!(r#"{HEAD} (func $call (export "call") (param i32 i32) (result i64) {body}))"#))
    }

    #[test]
    fn a_text_goes_in_and_a_text_comes_out() {
        let echo =
            "(i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))";
        assert_eq!(called(echo).unwrap(), r#"{"a":1}"#);
    }

    #[test]
    fn nothing_outside_can_be_had() {
        for (module, name, kind) in [
            ("wasi_snapshot_preview1", "path_open", "(func)"),
            ("wasi_snapshot_preview1", "environ_get", "(func (param i32 i32) (result i32))"),
            ("env", "system", "(func (param i32))"),
            ("env", "memory", "(memory 1)"),
        ] {
            let wat = format!(r#"(module (import "{module}" "{name}" {kind}))"#);
            let why = answer_of(&config(), &wat).unwrap_err();
            assert!(why.contains(name) && why.contains("from outside"), "{why}");
        }
    }

    #[test]
    fn what_runs_on_is_stopped() {
        assert!(called("(loop br 0) i64.const 0").unwrap_err().contains("instructions"));
        let endless = WasmConfig { fuel: u64::MAX / 2, time: Duration::from_millis(200), ..config() };
        let wat = format!(r#"{HEAD} (func (export "call") (param i32 i32) (result i64) (loop br 0) i64.const 0))"#);
        assert!(answer_of(&endless, &wat).unwrap_err().contains("too long"));
        // Also before the call: a module may run when it is made.
        let start = format!(
            r#"{HEAD} (func $s (loop br 0)) (start $s) (func (export "call") (param i32 i32) (result i64) i64.const 0))"#
        );
        assert!(answer_of(&config(), &start).unwrap_err().contains("instructions"));
        assert!(called("(call $call (local.get 0) (local.get 1))").unwrap_err().contains("stack"));
    }

    #[test]
    fn memory_has_an_end() {
        // Grows by 1,000 pages (64 MB): refused with -1, which is given as the length.
        let grow = "(i64.extend_i32_u (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)))";
        assert_eq!(called(grow).unwrap().len(), 1);
        let wat = r#"(module (memory (export "memory") 20000) (func (export "alloc") (param i32) (result i32) i32.const 0)
            (func (export "call") (param i32 i32) (result i64) i64.const 0))"#;
        assert!(answer_of(&config(), wat).is_err());
    }

    #[test]
    fn places_outside_the_memory_are_refused() {
        assert!(called("i64.const -1").unwrap_err().contains("longer"));
        // 64 KiB and 16 bytes on: behind the end.
        assert!(called("i64.const 0x0001000000000010").unwrap_err().contains("outside"));
        assert!(called("(i64.load (i32.const 70000))").unwrap_err().contains("out of bounds"));
        assert!(called("unreachable").unwrap_err().contains("unreachable"));
        let far = r#"(module (memory (export "memory") 1) (func (export "alloc") (param i32) (result i32) i32.const -8)
            (func (export "call") (param i32 i32) (result i64) i64.const 0))"#;
        assert!(answer_of(&config(), far).unwrap_err().contains("outside"));
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(compiled(b"#!/bin/sh").is_err() && compiled(b"").is_err() && compiled(b"\0asm\x01\0\0\0").is_err());
    }
}
