//! Limits the size of functions.

use super::tree::RustFile;
use super::{Tree, Violation};

/// Maximum size, from the line of `fn` to the line of the closing brace.
const MAX_LINES: usize = 70;

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.rust().flat_map(|file| long_functions(&file)).collect()
}

fn long_functions(file: &RustFile<'_>) -> Vec<Violation> {
    let code = file.lexed.code.as_str();
    let mut found = Vec::new();
    for (at, name) in functions(code) {
        let Some(body) = code.get(at..) else { continue };
        let Some(length) = lines_to_closing_brace(body) else {
            continue;
        };
        if length > MAX_LINES {
            let line = code
                .get(..at)
                .map_or(0, |before| before.matches('\n').count())
                + 1;
            let text = format!(
                "fn {name} has {length} lines; the limit is {MAX_LINES}, because a longer function \
                 has more than one topic"
            );
            found.push(Violation::failure(file.path, line, text));
        }
    }
    found
}

/// Returns the position and name of each function.
fn functions(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices("fn ").filter_map(|(at, _)| {
        let before = code.get(..at)?.chars().next_back();
        if before.is_some_and(|char| char.is_alphanumeric() || char == '_') {
            return None;
        }
        let rest = code.get(at + "fn ".len()..)?;
        let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_')?;
        rest.get(..end)
            .filter(|name| !name.is_empty())
            .map(|name| (at, name))
    })
}

/// Returns the number of lines, or `None` for a declaration without a body.
fn lines_to_closing_brace(code: &str) -> Option<usize> {
    let (mut depth, mut lines) = (0_usize, 1);
    let mut brackets = 0_usize;
    for char in code.chars() {
        match char {
            '\n' => lines += 1,
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(lines);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_long_functions_only() {
        let body = |lines: usize| "    call(\"}\");\n".repeat(lines);
        let source = format!(
            "//! A.\ntrait T {{ fn declared(&self, x: [u8; 3]); }}\n\
             fn fits() {{\n{}}}\nfn long() {{\n{}}}\n",
            body(68),
            body(69),
        );
        let found = violations(&Tree::of(&[("a/src/a.rs", &source)]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].text.starts_with("fn long has 71 lines"),
            "{found:?}"
        );
        assert_eq!(found[0].line, 73);
    }
}
