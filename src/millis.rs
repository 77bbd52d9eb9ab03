//! Every time that is written down is in milliseconds, to the microsecond: finer is noise.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

pub(crate) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    millis(*time).serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let ms = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(ms / 1e3).map_err(|_| D::Error::custom(format_args!("{ms} ms is no span of time")))
}

/// Where there may be none: null.
pub(crate) mod maybe {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer, millis};

    #[derive(serde::Deserialize)]
    struct Ms(#[serde(with = "super")] Duration);

    pub(crate) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(millis).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Ms>::deserialize(deserializer)?.map(|Ms(time)| time))
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Times(#[serde(with = "super")] Duration, #[serde(with = "super::maybe")] Option<Duration>);

    #[test]
    fn a_time_comes_back_to_the_microsecond() {
        let times = Times(Duration::from_nanos(5_003_041_700), None);
        let text = serde_json::to_string(&times).unwrap();
        assert_eq!(text, "[5003.042,null]");
        let again: Times = serde_json::from_str(&text).unwrap();
        assert_eq!(again, Times(Duration::from_micros(5_003_042), None));
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
    }

    #[test]
    fn what_is_no_span_of_time_is_refused() {
        for text in ["[-1,null]", "[0,-0.5]", "[1e300,null]", "[\"1ms\",null]"] {
            serde_json::from_str::<Times>(text).expect_err(text);
        }
    }
}
