//! Formatting of timestamps.

/// Formats a time in UTC as `YYYY-MM-DDThh:mm:ss.mmm`: RFC 3339, but without the final `Z`.
#[must_use]
pub fn rfc3339_ms(since_1970_ms: u128) -> String {
    let (days, ms) = (
        (since_1970_ms / 86_400_000) as i64,
        (since_1970_ms % 86_400_000) as u64,
    );
    // Hinnant's algorithm for civil dates; its years begin in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}",
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::rfc3339_ms;

    #[test]
    fn formats_dates() {
        assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00.000");
        assert_eq!(rfc3339_ms(951_782_400_123), "2000-02-29T00:00:00.123");
        assert_eq!(rfc3339_ms(1_795_392_000_000), "2026-11-23T00:00:00.000");
    }
}
