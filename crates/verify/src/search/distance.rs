//! Distances between vectors, the smaller the nearer.

/// Sums that are made side by side, as the processor does.
const LANES: usize = 8;

/// By which distance vectors are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    L2,
    Cosine,
    Ip,
}

impl Metric {
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        [Self::L2, Self::Cosine, Self::Ip].into_iter().find(|metric| metric.as_str() == word)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Cosine => "cosine",
            Self::Ip => "ip",
        }
    }

    /// pgvector's operator for it.
    pub(crate) fn operator(self) -> &'static str {
        match self {
            Self::L2 => "<->",
            Self::Cosine => "<=>",
            Self::Ip => "<#>",
        }
    }

    /// The distance of two vectors; those of different lengths are infinitely far.
    pub(crate) fn distance(self, one: &[f32], other: &[f32]) -> f64 {
        if one.len() != other.len() {
            return f64::INFINITY;
        }
        match self {
            Self::L2 => sum(one, other, |a, b| (a - b) * (a - b)).sqrt(),
            Self::Ip => -sum(one, other, |a, b| a * b),
            Self::Cosine => {
                let norms = sum(one, one, |a, b| a * b) * sum(other, other, |a, b| a * b);
                1.0 - sum(one, other, |a, b| a * b) / norms.sqrt()
            }
        }
    }
}

fn sum(one: &[f32], other: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (ones, rest) = one.as_chunks::<LANES>();
    let (others, other_rest) = other.as_chunks::<LANES>();
    for (one, other) in ones.iter().zip(others) {
        for lane in 0..LANES {
            sums[lane] += term(f64::from(one[lane]), f64::from(other[lane]));
        }
    }
    let rest = rest.iter().zip(other_rest).map(|(a, b)| term(f64::from(*a), f64::from(*b)));
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_books() {
        let one: Vec<f32> = (1..=9_u8).map(f32::from).collect();
        let other: Vec<f32> = (2..=10_u8).map(f32::from).collect();
        assert_eq!(Metric::L2.distance(&one, &other), 3.0);
        assert_eq!(Metric::Ip.distance(&one, &other), -330.0);
        assert!(Metric::Cosine.distance(&one, &one).abs() < 1e-12);
        assert!((Metric::Cosine.distance(&[1.0, 0.0], &[0.0, 2.0]) - 1.0).abs() < 1e-12);
        assert_eq!(Metric::L2.distance(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        for metric in [Metric::L2, Metric::Cosine, Metric::Ip] {
            assert_eq!(Metric::of_word(metric.as_str()), Some(metric));
        }
    }
}
