//! The modules of a crate do not import each other in circles.
//!
//! A module and its submodules are one unit: imports between them are not counted. Siblings must be
//! in layers.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::RustFile;
use super::{Tree, Violation};

/// Path of a module within its crate, for example `["host", "lifecycle"]`.
type Module = Vec<String>;

/// Imports between the children of one module: importing child, imported child, importing file.
type Imports = BTreeSet<(String, String, String)>;

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut crates: BTreeMap<&str, Vec<RustFile<'_>>> = BTreeMap::new();
    for file in tree.rust().filter(RustFile::is_shipped) {
        crates.entry(file.crate_dir()).or_default().push(file);
    }
    crates
        .iter()
        .flat_map(|(dir, files)| circles_of_crate(dir, files))
        .collect()
}

fn circles_of_crate(dir: &str, files: &[RustFile<'_>]) -> Vec<Violation> {
    let modules: BTreeSet<Module> = files.iter().map(|file| module(dir, file.path)).collect();
    let mut levels: BTreeMap<Module, Imports> = BTreeMap::new();
    for file in files {
        let from = module(dir, file.path);
        for to in imported_modules(&shipped_code(&file.lexed.code), &from, &modules) {
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(importer), Some(imported)) = (from.get(shared), to.get(shared)) {
                let parent = from.iter().take(shared).cloned().collect();
                let import = (importer.clone(), imported.clone(), file.path.to_owned());
                levels.entry(parent).or_default().insert(import);
            }
        }
    }
    let circles = levels.values().filter_map(circle);
    circles
        .map(|(members, path)| {
            let text = format!(
                "imports in a circle: {}; move the shared part to a module below both, so that \
                 each module can be read and tested without the others",
                members.join(" -> ")
            );
            Violation::failure(&path, 0, text)
        })
        .collect()
}

fn module(dir: &str, path: &str) -> Module {
    let inner = path
        .strip_prefix(dir)
        .and_then(|rest| rest.strip_prefix("/src/"))
        .unwrap_or(path)
        .trim_end_matches(".rs");
    match inner {
        "lib" | "main" => Vec::new(),
        inner => inner.split('/').map(str::to_owned).collect(),
    }
}

/// Returns the code before the unit tests, which may use any module.
fn shipped_code(code: &str) -> String {
    let lines = code.lines();
    let shipped = lines.take_while(|line| line.trim() != "#[cfg(test)]");
    shipped.collect::<Vec<_>>().join("\n")
}

/// Returns the modules that paths beginning with `crate`, `self` or `super` lead to.
fn imported_modules(code: &str, from: &Module, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let mut imported = BTreeSet::new();
    for path in paths(code) {
        let mut names = path.iter().map(String::as_str).peekable();
        let mut to = match names.next() {
            Some("crate") => Vec::new(),
            Some("self") => from.clone(),
            Some("super") => parent(from),
            _ => continue,
        };
        while names.next_if(|name| *name == "super").is_some() {
            to = parent(&to);
        }
        for name in names {
            let mut deeper = to.clone();
            deeper.push(name.to_owned());
            if !modules.iter().any(|module| module.starts_with(&deeper)) {
                break;
            }
            to = deeper;
        }
        imported.insert(to);
    }
    imported
}

fn parent(module: &Module) -> Module {
    let mut parent = module.clone();
    parent.pop();
    parent
}

/// Returns the paths of the code, with the groups of `use` declarations expanded.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let begins_word = code
            .get(..at)
            .is_none_or(|before| !before.ends_with(|char: char| char.is_alphanumeric()));
        let declaration = code.get(at + 4..).and_then(|rest| rest.split(';').next());
        if let (true, Some(declaration)) = (begins_word, declaration) {
            expand("", declaration, &mut paths);
        }
    }
    // Paths outside of `use` declarations are words of names and colons.
    let words = code.split(|char: char| !(char.is_alphanumeric() || "_:".contains(char)));
    paths.extend(words.filter(|word| word.contains("::")).map(names));
    paths
}

/// Adds the paths of a `use` tree, each behind the prefix.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<Vec<String>>) {
    let Some((head, group)) = tree.split_once('{') else {
        paths.push(names(&format!("{prefix}{tree}")));
        return;
    };
    let group = group.rsplit_once('}').map_or(group, |(inner, _)| inner);
    let prefix = format!("{prefix}{head}");
    let (mut depth, mut from) = (0_usize, 0);
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                expand(&prefix, group.get(from..at).unwrap_or_default(), paths);
                from = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, group.get(from..).unwrap_or_default(), paths);
}

fn names(path: &str) -> Vec<String> {
    let path = path.split(" as ").next().unwrap_or_default();
    path.split("::")
        .map(|name| name.trim().to_owned())
        .collect()
}

/// Returns one circle among siblings, with the first file that takes part in it.
fn circle(imports: &Imports) -> Option<(Vec<String>, String)> {
    let next = |from: &str| {
        let from = from.to_owned();
        imports
            .iter()
            .filter(move |(importer, ..)| *importer == from)
    };
    for (start, _, file) in imports {
        // The shortest chain back to `start`, by breadth-first search.
        let mut seen = BTreeSet::from([start.clone()]);
        let mut chains = std::collections::VecDeque::from([vec![start.clone()]]);
        while let Some(chain) = chains.pop_front() {
            let last = chain.last().cloned().unwrap_or_default();
            for (_, imported, _) in next(&last) {
                let mut longer = chain.clone();
                longer.push(imported.clone());
                if imported == start {
                    return Some((longer, file.clone()));
                }
                if seen.insert(imported.clone()) {
                    chains.push_back(longer);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)]) -> Vec<String> {
        let found = violations(&Tree::of(files));
        found.into_iter().map(|violation| violation.text).collect()
    }

    #[test]
    fn rejects_circles_between_siblings() {
        let found = texts(&[
            ("k/src/a.rs", "//! A.\nuse crate::{b::{C, D}, e};"),
            ("k/src/b.rs", "//! B.\nmod inner;"),
            (
                "k/src/b/inner.rs",
                "//! I.\nfn f() { super::super::e::g() }",
            ),
            ("k/src/e.rs", "//! E.\nuse super::a::X;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("a -> e -> a"), "{found:?}");
    }

    #[test]
    fn accepts_layers_and_imports_between_parent_and_child() {
        let found = texts(&[
            (
                "k/src/a.rs",
                "//! A.\nmod b;\nuse self::b::X;\nuse crate::c::Y;",
            ),
            ("k/src/a/b.rs", "//! B.\nuse super::Z;"),
            (
                "k/src/c.rs",
                "//! C.\n// use crate::a::Z;\n#[cfg(test)]\nuse crate::a::Z;",
            ),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }
}
