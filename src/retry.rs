//! The rule for measurements: one that proves nothing is made again, three times in all; one that failed never is.

/// How often a measurement is made at most.
const MEASUREMENTS: u32 = 3;

/// Measures until the result proves something, or until the last measurement.
pub(crate) fn while_inconclusive<T>(mut measure: impl FnMut() -> T, proves_nothing: impl Fn(&T) -> bool) -> T {
    let mut measured = measure();
    for _ in 1..MEASUREMENTS {
        if proves_nothing(&measured) {
            measured = measure();
        }
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_proves_nothing_is_measured_again() {
        let made = |all: &[Option<bool>]| {
            let mut nth = 0;
            let last = while_inconclusive(
                || {
                    nth += 1;
                    all[nth - 1]
                },
                Option::is_none,
            );
            (last, nth)
        };
        assert_eq!(made(&[Some(true)]), (Some(true), 1));
        assert_eq!(made(&[Some(false)]), (Some(false), 1));
        assert_eq!(made(&[None, Some(false)]), (Some(false), 2));
        assert_eq!(made(&[None, None, Some(true)]), (Some(true), 3));
        assert_eq!(made(&[None, None, None]), (None, 3));
    }
}
