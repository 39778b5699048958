//! Skills: folders with a `SKILL.md` that says when and how something is done. Its head is YAML between two lines of `---` with
//! `name` and `description`; the rest is Markdown (trigger, steps, pitfalls, verification) and is read when the skill fits.

use std::path::{Path, PathBuf};

/// The longest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 32 * 1024;
/// The longest name and description, characters.
const NAME_CHARS_MAX: usize = 64;
const DESCRIPTION_CHARS_MAX: usize = 1_024;
/// The most skills of one folder.
const SKILLS_MAX: usize = 256;

/// One skill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skill {
    /// Its name; small letters, digits and hyphens.
    pub name: String,
    /// What it does and when it fits.
    pub description: String,
    /// How it is done.
    pub body: String,
}

/// Why a skill is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SkillError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// The file is not one.
    #[error("{0}: {1}")]
    Form(PathBuf, &'static str),
}

/// Reads all skills of a folder, by name; what is wrong with the others is beside them.
///
/// # Errors
/// When the folder cannot be read.
pub fn read_skills(folder: &Path) -> Result<(Vec<Skill>, Vec<SkillError>), SkillError> {
    let unreadable = |error| SkillError::Read(folder.to_owned(), error);
    let (mut skills, mut wrong) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path().join("SKILL.md");
        if !file.is_file() {
            continue;
        }
        match read(&file) {
            Ok(skill) => skills.push(skill),
            Err(error) => wrong.push(error),
        }
    }
    skills.sort_by(|a: &Skill, b| a.name.cmp(&b.name));
    skills.dedup_by(|a, b| a.name == b.name);
    skills.truncate(SKILLS_MAX);
    Ok((skills, wrong))
}

fn read(file: &Path) -> Result<Skill, SkillError> {
    let unreadable = |error| SkillError::Read(file.to_owned(), error);
    if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(SkillError::Form(file.to_owned(), "it is larger than 32 KiB"));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    parse(&text).map_err(|why| SkillError::Form(file.to_owned(), why))
}

fn parse(text: &str) -> Result<Skill, &'static str> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let rest = text.strip_prefix("---\n").ok_or("it does not begin with a line of `---`")?;
    let (head, body) = rest.split_once("\n---").ok_or("its head has no second line of `---`")?;
    let name = field(head, "name").ok_or("its head has no `name`")?;
    let description = field(head, "description").ok_or("its head has no `description`")?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_plain) {
        return Err("its `name` is not of small letters, digits and hyphens");
    }
    if description.is_empty() || description.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err("its `description` is empty or longer than 1024 characters");
    }
    Ok(Skill { name, description, body: body.trim().to_owned() })
}

/// A field of the head: in its line, quoted or not, or in the indented lines below it (`>` and `|` of YAML).
fn field(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().skip_while(|line| !line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')));
    let first = lines.next()?.split_once(':')?.1.trim();
    let more: Vec<&str> = lines.take_while(|line| line.starts_with([' ', '\t'])).map(str::trim).collect();
    let first = first.trim_start_matches(['>', '|']).trim_start_matches('-').trim();
    let whole = std::iter::once(first).chain(more).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let quoted = |q: char| whole.strip_prefix(q).and_then(|text| text.strip_suffix(q));
    Some(quoted('"').or_else(|| quoted('\'')).unwrap_or(&whole).to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_skill_is_read_and_what_is_none_is_said() {
        let skill = parse("---\nname: water-plants\ndescription: >\n  How the plants\n  are watered\nlicense: MIT\n---\n# Steps\n1. Water").unwrap();
        let want = Skill {
            name: "water-plants".into(),
            description: "How the plants are watered".into(),
            body: "# Steps\n1. Water".into(),
        };
        assert_eq!(skill, want);
        assert_eq!(parse("---\nname: a\ndescription: \"b: c\"\n---").unwrap().description, "b: c");
        for wrong in ["", "# no head", "---\nname: a\n---\n", "---\nname: ../up\ndescription: b\n---\n", "---\nname: a"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(---\n)?(name|description|[ -~]){0,5}:?[ -~\n]{0,80}(\n---)?\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
