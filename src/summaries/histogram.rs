//! Histogram of durations whose buckets are 10 % apart: two of them add up, and a quantile is exact to 10 %.

/// Distance of two buckets.
const RATIO: f64 = 1.1;

/// Last bucket, which begins below 30 days (2,592,000,000 ms) and has everything beyond.
pub const LAST_BUCKET: i16 = 227;

/// Returns the bucket of a duration in milliseconds. Bucket `n` has what is shorter than 1.1^(n+1) ms; the first one also what is
/// shorter than a millisecond.
#[must_use]
pub fn bucket(milliseconds: f64) -> i16 {
    let power = milliseconds.max(1.0).ln() / RATIO.ln();
    // A power of the ratio itself belongs to the bucket that it begins, whatever the logarithm's last digit is.
    let bucket = (power + 1e-9).floor();
    if bucket >= f64::from(LAST_BUCKET) { LAST_BUCKET } else { bucket as i16 }
}

/// Returns a quantile of a histogram, given as (bucket, events) in the order of buckets, in milliseconds: the middle of the bucket that
/// it falls into. `None` where there are no events.
#[must_use]
pub fn quantile(histogram: &[(i16, i64)], share: f64) -> Option<f64> {
    let events: i64 = histogram.iter().map(|(_, events)| events).sum();
    let wanted = ((events as f64) * share).ceil().max(1.0);
    let mut passed = 0.0;
    histogram.iter().find_map(|(bucket, events)| {
        passed += *events as f64;
        (*events > 0 && passed >= wanted).then(|| RATIO.powf(f64::from(*bucket) + 0.5))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_reach_from_a_millisecond_to_30_days() {
        assert_eq!([0.0, 0.3, 1.0, 1.09].map(bucket), [0; 4]);
        assert_eq!([1.1, 1.2, 1.21].map(bucket), [1, 1, 2]);
        let days = 86_400_000.0;
        assert_eq!(
            [28.0, 30.0, 31.0, 1e9, f64::INFINITY].map(|count| bucket(count * days)),
            [226, 227, 227, 227, 227]
        );
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(3, 0)], 0.5), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_exact_to_10_percent(mut durations in proptest::collection::vec(1.0..2.0e9_f64, 1..300), share in 0.01..1.0_f64) {
            durations.sort_by(f64::total_cmp);
            let mut histogram = std::collections::BTreeMap::new();
            for duration in &durations {
                *histogram.entry(bucket(*duration)).or_insert(0_i64) += 1;
            }
            let histogram: Vec<_> = histogram.into_iter().collect();
            let rank = ((durations.len() as f64) * share).ceil().max(1.0) as usize;
            let (exact, found) = (durations[rank - 1], quantile(&histogram, share).unwrap());
            prop_assert!((found / exact - 1.0).abs() <= 0.1, "{found} for {exact}");
        }
    }
}
