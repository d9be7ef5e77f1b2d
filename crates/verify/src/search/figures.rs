//! Averages, quantiles and confidence.

/// How many standard errors 95 % of a normal distribution lie around its mean.
const DEVIATIONS: f64 = 1.96;

/// Numbers in order.
pub(super) struct Figures(Vec<f64>);

impl Figures {
    pub(super) fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        Self(numbers)
    }

    fn count(&self) -> f64 {
        f64::from(u32::try_from(self.0.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.count().max(1.0)
    }

    /// Within these the average of all would lie, with 95 % confidence; shares lie between 0 and 1.
    pub(super) fn interval(&self) -> (f64, f64) {
        let mean = self.mean();
        let squares = self.0.iter().map(|number| (number - mean).powi(2)).sum::<f64>();
        let error = (squares / (self.count() - 1.0).max(1.0) / self.count().max(1.0)).sqrt();
        ((mean - DEVIATIONS * error).max(0.0), (mean + DEVIATIONS * error).min(1.0))
    }

    /// The number that this share of all does not exceed.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let place = (1..=self.0.len())
            .find(|place| f64::from(u32::try_from(*place).unwrap_or(u32::MAX)) >= share * self.count());
        place.and_then(|place| self.0.get(place - 1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_few_numbers() {
        let figures = Figures::of((1..=20_u8).rev().map(f64::from).collect());
        assert_eq!(
            (figures.quantile(0.5), figures.quantile(0.95), figures.quantile(1.0)),
            (10.0, 19.0, 20.0)
        );
        assert_eq!(figures.mean(), 10.5);
        let shares = Figures::of(vec![1.0, 0.8, 0.6, 0.8]);
        let (low, high) = shares.interval();
        assert!((0.63..0.65).contains(&low) && (0.95..0.97).contains(&high), "{low} {high}");
        assert_eq!(Figures::of(vec![1.0; 9]).interval(), (1.0, 1.0));
        assert_eq!(Figures::of(Vec::new()).quantile(0.5), 0.0);
    }
}
