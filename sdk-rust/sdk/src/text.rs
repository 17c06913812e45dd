//! Text of limited length.

/// Truncates text to `max_bytes`, between characters, and marks the cut with `…`.
pub(crate) fn shorten(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let Some(max_end) = max_bytes.checked_sub('…'.len_utf8()) else {
        return String::new();
    };
    let end = (0..=max_end)
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shortened_text_is_a_prefix(text in ".{0,40}", max in 0usize..50) {
            let short = shorten(&text, max);
            prop_assert!(short.len() <= max);
            prop_assert!(text.starts_with(short.strip_suffix('…').unwrap_or(&short)));
        }
    }
}
