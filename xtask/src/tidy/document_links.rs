//! Every relative link of a document leads to something.

use super::{Tree, Violation};

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, content) in tree.with_ending("md") {
        let mut fenced = false;
        for (index, line) in content.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for target in targets(line).filter(|target| !leads_somewhere(tree, path, target)) {
                let text = format!("links to {target}, which is not there");
                found.push(Violation::failure(path, index + 1, text));
            }
        }
    }
    found
}

/// What stands in the round brackets of `[text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
}

fn leads_somewhere(tree: &Tree, path: &str, target: &str) -> bool {
    let elsewhere = target.contains("://") || target.starts_with("mailto:");
    let file = target.split('#').next().unwrap_or_default();
    if elsewhere || file.is_empty() {
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
    fn a_link_to_nothing_is_refused() {
        let text = "[a](b.md#x) [b](../README.md) [c](https://example.org/x.md) [d](#here)\n\
                    ```\n[e](nowhere.md)\n```\n[f](nowhere.md) [g](../../x)\n";
        let tree = Tree::of(&[("docs/a.md", text), ("docs/b.md", ""), ("README.md", "")]);
        let found: Vec<_> = violations(&tree)
            .into_iter()
            .map(|found| found.text)
            .collect();
        assert_eq!(
            found,
            [
                "links to nowhere.md, which is not there",
                "links to ../../x, which is not there"
            ]
        );
    }
}
