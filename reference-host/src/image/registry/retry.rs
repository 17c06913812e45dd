//! When a request to a registry is repeated. Pure.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

/// Delay before the first repetition; each further one is twice as long.
const DELAY_MIN: Duration = Duration::from_millis(200);
/// Limit of requests to a registry that does not say when to try again. With the delays above they
/// take 1.4 s, so the reply to a start still contains the failure.
const ATTEMPTS_MAX: u32 = 4;

/// Returns the delay after which a request is repeated, or `None` if the response is final: another
/// status, too many attempts, or no time left. `attempt` counts from 1.
pub(super) fn delay(
    attempt: u32,
    status: StatusCode,
    headers: &HeaderMap,
    remaining: Duration,
) -> Option<Duration> {
    let temporary = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let announced = retry_after(headers);
    if !temporary || (announced.is_none() && attempt >= ATTEMPTS_MAX) {
        return None;
    }
    let backoff = DELAY_MIN.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    // A registry that says "now" again and again is asked less and less often.
    let delay = announced.map_or(backoff, |announced| announced.max(backoff));
    (delay < remaining).then_some(delay)
}

/// Reads `Retry-After` in seconds. Its other form, a date, depends on the clocks of both sides, so
/// it counts as absent.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(value.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_temporary_failures_within_the_deadline() {
        let minute = Duration::from_secs(60);
        let ms = |ms| Some(Duration::from_millis(ms));
        for (attempt, status, retry_after, remaining, expected) in [
            (1, 503, None, minute, ms(200)),
            (2, 500, None, minute, ms(400)),
            (3, 429, None, minute, ms(800)),
            (4, 429, None, minute, None),
            (1, 404, None, minute, None),
            (1, 401, Some("1"), minute, None),
            (1, 501, None, minute, None),
            (1, 429, Some("7"), minute, ms(7_000)),
            (9, 429, Some("1"), Duration::from_secs(600), ms(51_200)),
            (1, 429, Some("0"), minute, ms(200)),
            (1, 429, Some("60"), minute, None),
            (1, 429, Some("99999999999999999999"), minute, ms(200)),
            (
                1,
                503,
                Some("Wed, 21 Oct 2026 07:28:00 GMT"),
                minute,
                ms(200),
            ),
            (1, 503, None, Duration::from_millis(100), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = retry_after {
                headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            let delay = delay(attempt, status, &headers, remaining);
            assert_eq!(delay, expected, "{attempt} {status} {retry_after:?}");
        }
    }
}
