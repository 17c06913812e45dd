//! A lexer that separates the code of a Rust file from its comments and strings.

/// A file without comments, as two texts with equal positions: its code, and the contents of its
/// strings.
#[derive(Debug)]
pub(crate) struct Lexed {
    /// The code; comments and contents of strings are replaced by spaces.
    pub(crate) code: String,
    /// The contents of strings; everything else is replaced by spaces.
    pub(crate) strings: String,
}

impl Lexed {
    pub(crate) fn new(source: &str) -> Self {
        let mut lexer = Lexer {
            chars: source.chars().collect(),
            position: 0,
            kinds: Vec::new(),
        };
        lexer.run();
        let keep = |kept: Kind| {
            let keep_char = |(&char, &kind): (&char, &Kind)| {
                if kind == kept || char == '\n' {
                    char
                } else {
                    ' '
                }
            };
            lexer
                .chars
                .iter()
                .zip(&lexer.kinds)
                .map(keep_char)
                .collect()
        };
        Self {
            code: keep(Kind::Code),
            strings: keep(Kind::String),
        }
    }

    /// Returns the identifiers of the code with their line numbers.
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

struct Lexer {
    chars: Vec<char>,
    position: usize,
    kinds: Vec<Kind>,
}

impl Lexer {
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
        self.chars.get(self.position + ahead).copied()
    }

    fn take(&mut self, kind: Kind) {
        self.kinds.push(kind);
        self.position += 1;
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

    /// Whether `r` begins a raw string, and is neither the end of a name nor part of a raw name
    /// (`r#gen`).
    fn is_raw_string(&self) -> bool {
        let before = self
            .position
            .checked_sub(1)
            .and_then(|position| self.chars.get(position));
        let in_name =
            before.is_some_and(|char| char.is_alphanumeric() && *char != 'b' && *char != 'c');
        let mut ahead = 1;
        while self.peek(ahead) == Some('#') {
            ahead += 1;
        }
        !in_name && self.peek(ahead) == Some('"')
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

    /// Consumes a character literal (`'a'`, `'\''`) or the beginning of a lifetime (`'a`).
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
    use super::Lexed;

    #[track_caller]
    fn assert_code(source: &str, code: &str) {
        let lexed = Lexed::new(source);
        assert_eq!(lexed.code, code);
        assert_eq!(lexed.code.chars().count(), lexed.strings.chars().count());
    }

    #[test]
    fn replaces_comments_and_strings_by_spaces() {
        assert_code("a // b\nc", "a     \nc");
        assert_code("a /* b /* c */ d */ e", "a                   e");
        assert_code(r#"f("a // \" b") g"#, r#"f("         ") g"#);
        assert_code(r##"r#"a"b"# c"##, r##"r#"   "# c"##);
        assert_code(r##"br"a" r#gen var"##, r##"br" " r#gen var"##);
    }

    #[test]
    fn distinguishes_characters_from_lifetimes() {
        assert_code("'\"' x", "' ' x");
        assert_code(r"'\'' x", "'  ' x");
        assert_code(r"'\u{7f}' x", "'      ' x");
        assert_code("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
    }

    #[test]
    fn strings_keep_their_position() {
        assert_eq!(Lexed::new("a(\"b\nc\")").strings, "   b\nc  ");
    }

    #[test]
    fn identifiers_have_lines() {
        let lexed = Lexed::new("let a_1 = b; // c\n\"d\" e");
        let found: Vec<_> = lexed.identifiers().collect();
        assert_eq!(found, [(1, "let"), (1, "a_1"), (1, "b"), (2, "e")]);
    }
}
