//! `timmy backup`, `restore`, `config`, `paths`, `completions`, `man`

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::backup;
use crate::cli::{Cli, ConfigCommand, Context};
use crate::config::REFERENCE;

/// Writes a backup.
pub(crate) fn backup(context: &Context, file: &Path, passphrase_file: Option<&Path>) -> Result<()> {
    let passphrase = super::backup_passphrase(passphrase_file, true)?;
    let bytes = backup::write(&context.home, file, &passphrase)?;
    context.print(&json!({ "file": file, "bytes": bytes }), || {
        format!(
            "wrote {} ({bytes} bytes). Keep the passphrase apart from it: whoever has both is this node.\n",
            file.display()
        )
    })
}

/// Brings a backup back.
pub(crate) fn restore(context: &Context, file: &Path, passphrase_file: Option<&Path>) -> Result<()> {
    let passphrase = super::backup_passphrase(passphrase_file, false)?;
    backup::restore(&context.home, file, &passphrase)?;
    context.print(&json!({ "restored": true, "data_dir": context.home.dir() }), || {
        format!(
            "restored into {}. Install and transport keys are new; at its first start this install takes over the passport.\n\
             If the original still runs somewhere it will shut its job doors: stop it.\n",
            context.home.dir().display()
        )
    })
}

/// `timmy config …`
pub(crate) fn config(context: &Context, which: &ConfigCommand) -> Result<()> {
    match which {
        ConfigCommand::Check => {
            context.config()?;
            let file = context.config_file.display().to_string();
            let there = context.config_file.exists();
            context.print(&json!({ "ok": true, "file": file }), || {
                if there {
                    format!("{file} is right\n")
                } else {
                    format!("{file} does not exist; the defaults are in force\n")
                }
            })
        }
        ConfigCommand::Show => {
            let config = context.config()?;
            let shown = config.show()?;
            context.print(&serde_json::to_value(&config)?, || shown)
        }
        ConfigCommand::Reference => context.print(&json!({ "reference": REFERENCE }), || REFERENCE.to_owned()),
    }
}

/// Where everything is kept.
pub(crate) fn paths(context: &Context) -> Result<()> {
    let home = &context.home;
    let paths = [
        ("data", home.dir().to_owned()),
        ("config", context.config_file.clone()),
        ("keys", home.keys()),
        ("journal", home.journal()),
        ("memory", home.memory()),
        ("relay", home.relay()),
        ("token", home.token()),
    ];
    let value: serde_json::Map<_, _> = paths.iter().map(|(name, path)| ((*name).to_owned(), json!(path))).collect();
    context
        .print(&value.into(), || paths.iter().map(|(name, path)| format!("{name:<8} {}\n", path.display())).collect())
}

/// Completions for a shell.
pub(crate) fn completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "timmy", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// The manual page: every command, then every configuration key.
pub(crate) fn man() -> Result<()> {
    Ok(std::io::stdout().write_all(&man_page()?)?)
}

fn man_page() -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
        describe(&mut page, "timmy", sub)?;
    }
    writeln!(page, ".SH CONFIGURATION\n.nf")?;
    for line in REFERENCE.lines() {
        // roff takes a leading dot or quote as a request, and a backslash as an escape.
        writeln!(page, "\\&{}", line.replace('\\', "\\\\"))?;
    }
    writeln!(page, ".fi")?;
    Ok(page)
}

fn describe(page: &mut Vec<u8>, parent: &str, command: &clap::Command) -> Result<()> {
    let name = format!("{parent} {}", command.get_name());
    let title = name.to_uppercase();
    writeln!(page, ".SH \"{title}\"\n{}\n", command.get_about().map(ToString::to_string).unwrap_or_default())?;
    for arg in command.get_arguments().filter(|a| !a.is_global_set() && a.get_id() != "help") {
        let shown = arg.get_long().map_or_else(|| arg.get_id().to_string(), |l| format!("\\-\\-{l}"));
        writeln!(page, ".TP\n\\fB{shown}\\fR\n{}", arg.get_help().map(ToString::to_string).unwrap_or_default())?;
    }
    command.get_subcommands().filter(|c| c.get_name() != "help").try_for_each(|sub| describe(page, &name, sub))
}
