//! Tells the code of a Rust file from its comments and its strings, without parsing it.

/// The file twice, every byte at its place: once code alone, once the insides of strings alone.
#[derive(Debug)]
pub(crate) struct Blanked {
    /// Comments and the insides of strings are spaces.
    pub(crate) code: String,
    /// Everything but the insides of strings is spaces.
    pub(crate) strings: String,
}

impl Blanked {
    pub(crate) fn new(source: &str) -> Self {
        let mut scanner = Scanner {
            rest: source.chars().collect(),
            at: 0,
            kinds: Vec::new(),
        };
        scanner.run();
        let keep = |wanted: Kind| {
            let blanked = |(&char, &kind): (&char, &Kind)| {
                if kind == wanted || char == '\n' {
                    char
                } else {
                    ' '
                }
            };
            scanner
                .rest
                .iter()
                .zip(&scanner.kinds)
                .map(blanked)
                .collect()
        };
        Self {
            code: keep(Kind::Code),
            strings: keep(Kind::String),
        }
    }

    /// Each identifier of the code, with its line.
    pub(crate) fn identifiers(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().flat_map(|(index, line)| {
            line.split(|char: char| !char.is_alphanumeric() && char != '_')
                .filter(|word| !word.is_empty())
                .map(move |word| (index + 1, word))
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    String,
}

struct Scanner {
    rest: Vec<char>,
    at: usize,
    kinds: Vec<Kind>,
}

impl Scanner {
    fn run(&mut self) {
        while let Some(char) = self.peek(0) {
            match (char, self.peek(1)) {
                ('/', Some('/')) => self.line_comment(),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('r', Some('"' | '#')) if self.is_raw_string() => self.raw_string(),
                ('\'', _) => self.quote(),
                _ => self.take(Kind::Code),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(self.at + ahead).copied()
    }

    fn take(&mut self, kind: Kind) {
        self.kinds.push(kind);
        self.at += 1;
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|char| char != '\n') {
            self.take(Kind::Comment);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(char) = self.peek(0) {
            match (char, self.peek(1)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => {
                    self.take(Kind::Comment);
                    continue;
                }
            }
            self.take(Kind::Comment);
            self.take(Kind::Comment);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.take(Kind::Code);
        while let Some(char) = self.peek(0) {
            match char {
                '"' => return self.take(Kind::Code),
                '\\' if self.peek(1).is_some() => {
                    self.take(Kind::String);
                    self.take(Kind::String);
                }
                _ => self.take(Kind::String),
            }
        }
    }

    /// Whether `r` begins a raw string and is neither the end of a name nor a raw name (`r#gen`).
    fn is_raw_string(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.rest.get(at));
        let named =
            before.is_some_and(|char| char.is_alphanumeric() && *char != 'b' && *char != 'c');
        let mut ahead = 1;
        while self.peek(ahead) == Some('#') {
            ahead += 1;
        }
        !named && self.peek(ahead) == Some('"')
    }

    fn raw_string(&mut self) {
        self.take(Kind::Code);
        let mut hashes = 0;
        while self.peek(0) == Some('#') {
            self.take(Kind::Code);
            hashes += 1;
        }
        self.take(Kind::Code);
        while let Some(char) = self.peek(0) {
            let closes = char == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#'));
            if closes {
                (0..=hashes).for_each(|_| self.take(Kind::Code));
                return;
            }
            self.take(Kind::String);
        }
    }

    /// A character (`'a'`, `'\''`) or the beginning of a lifetime (`'a`).
    fn quote(&mut self) {
        let escaped = self.peek(1) == Some('\\');
        let is_char = escaped || self.peek(2) == Some('\'');
        self.take(Kind::Code);
        if !is_char {
            return;
        }
        if escaped {
            self.take(Kind::String);
        }
        self.take(Kind::String);
        while self.peek(0).is_some_and(|char| char != '\'') {
            self.take(Kind::String);
        }
        if self.peek(0).is_some() {
            self.take(Kind::Code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Blanked;

    #[track_caller]
    fn code_is(source: &str, code: &str) {
        let blanked = Blanked::new(source);
        assert_eq!(blanked.code, code);
        assert_eq!(
            blanked.code.chars().count(),
            blanked.strings.chars().count()
        );
    }

    #[test]
    fn comments_and_strings_are_blank() {
        code_is("a // b\nc", "a     \nc");
        code_is("a /* b /* c */ d */ e", "a                   e");
        code_is(r#"f("a // \" b") g"#, r#"f("         ") g"#);
        code_is(r##"r#"a"b"# c"##, r##"r#"   "# c"##);
        code_is(r##"br"a" r#gen var"##, r##"br" " r#gen var"##);
    }

    #[test]
    fn characters_are_told_from_lifetimes() {
        code_is("'\"' x", "' ' x");
        code_is(r"'\'' x", "'  ' x");
        code_is(r"'\u{7f}' x", "'      ' x");
        code_is("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
    }

    #[test]
    fn strings_keep_their_place() {
        assert_eq!(Blanked::new("a(\"b\nc\")").strings, "   b\nc  ");
    }

    #[test]
    fn identifiers_have_lines() {
        let blanked = Blanked::new("let a_1 = b; // c\n\"d\" e");
        let found: Vec<_> = blanked.identifiers().collect();
        assert_eq!(found, [(1, "let"), (1, "a_1"), (1, "b"), (2, "e")]);
    }
}
