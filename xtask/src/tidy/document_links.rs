//! Relative links in documents must have a target.

use super::{Tree, Violation};

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, content) in tree.with_extension("md") {
        let mut fenced = false;
        for (index, line) in content.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for target in targets(line).filter(|target| !exists(tree, path, target)) {
                let text = format!("links to {target}, which does not exist");
                violations.push(Violation::failure(path, index + 1, text));
            }
        }
    }
    violations
}

/// Returns the targets of links, `[text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
}

fn exists(tree: &Tree, path: &str, target: &str) -> bool {
    let is_external = target.contains("://") || target.starts_with("mailto:");
    let file = target.split('#').next().unwrap_or_default();
    if is_external || file.is_empty() {
        return true;
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in file
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        match part {
            ".." => {
                if parts.pop().is_none() {
                    return false;
                }
            }
            part => parts.push(part),
        }
    }
    parts.is_empty() || tree.has(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_broken_links() {
        let text = "[a](b.md#x) [b](../README.md) [c](https://example.org/x.md) [d](#here)\n\
                    ```\n[e](nowhere.md)\n```\n[f](nowhere.md) [g](../../x)\n";
        let tree = Tree::of(&[("docs/a.md", text), ("docs/b.md", ""), ("README.md", "")]);
        let texts: Vec<_> = violations(&tree)
            .into_iter()
            .map(|violation| violation.text)
            .collect();
        assert_eq!(
            texts,
            [
                "links to nowhere.md, which does not exist",
                "links to ../../x, which does not exist"
            ]
        );
    }
}
