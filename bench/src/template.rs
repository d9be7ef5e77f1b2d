//! Records that are prepared once and differ in their number alone: a page of any place is a copy with other numbers in
//! it, at the price of that copy.

use std::ops::Range;

/// The number before the first record. Every number has ten digits, so that none moves what stands behind it.
pub(crate) const FIRST: u64 = 1_000_000_000;
const DIGITS: usize = 10;
/// A 64-bit number in a row of binary COPY, its length before it.
const INTEGER_HEAD: &[u8] = &[0, 0, 0, 8];

/// Prepared records, one behind the other.
pub(crate) struct Template {
    text: Vec<u8>,
    records: Vec<Record>,
}

/// A record within the text.
struct Record {
    range: Range<usize>,
    /// Where its number stands as digits, from the record's beginning.
    digits: Vec<usize>,
    /// Where it stands as eight bytes.
    integers: Vec<usize>,
}

impl Template {
    /// Prepares so many records; `make` gives one by its number.
    pub(crate) fn new(records: u64, mut make: impl FnMut(u64) -> Vec<u8>) -> Self {
        let mut template = Self { text: Vec::new(), records: Vec::new() };
        for number in FIRST + 1..=FIRST + records {
            let record = make(number);
            let start = template.text.len();
            let integer = [INTEGER_HEAD, &number.to_be_bytes()].concat();
            let integers = places(&record, &integer).map(|at| at + INTEGER_HEAD.len()).collect();
            let digits = places(&record, number.to_string().as_bytes()).collect();
            template.text.extend_from_slice(&record);
            template.records.push(Record { range: start..template.text.len(), digits, integers });
        }
        template
    }

    /// How many records a page holds at most.
    pub(crate) fn len(&self) -> u64 {
        self.records.len() as u64
    }

    /// Appends up to `count` records, numbered on from `first`; answers with how many they are.
    pub(crate) fn append(&self, page: &mut Vec<u8>, first: u64, count: u64) -> u64 {
        self.append_from(0, page, first, count)
    }

    /// The same, where a number's record is always made of the same prepared one: what it has follows from its number.
    /// Appends no further than the prepared records go.
    pub(crate) fn append_in_place(&self, page: &mut Vec<u8>, first: u64, count: u64) -> u64 {
        self.append_from(self.place(first), page, first, count)
    }

    /// Which of the prepared records a number's is made of.
    fn place(&self, number: u64) -> usize {
        usize::try_from((number - FIRST - 1) % self.len().max(1)).unwrap_or_default()
    }

    fn append_from(&self, at: usize, page: &mut Vec<u8>, first: u64, count: u64) -> u64 {
        let records = self.records.get(at..).unwrap_or_default();
        let records = &records[..records.len().min(usize::try_from(count).unwrap_or(usize::MAX))];
        let (Some(head), Some(last)) = (records.first(), records.last()) else { return 0 };
        let (from, start) = (head.range.start, page.len());
        page.extend_from_slice(&self.text[from..last.range.end]);
        for (record, number) in records.iter().zip(first..) {
            let begin = start + record.range.start - from;
            let digits = digits(number);
            for at in &record.digits {
                page[begin + at..begin + at + DIGITS].copy_from_slice(&digits);
            }
            for at in &record.integers {
                page[begin + at..begin + at + 8].copy_from_slice(&number.to_be_bytes());
            }
        }
        records.len() as u64
    }
}

fn places<'a>(record: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    record.windows(part.len()).enumerate().filter(move |(_, window)| *window == part).map(|(at, _)| at)
}

fn digits(mut number: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_any_place_has_its_own_numbers() {
        let make = |number: u64| {
            [format!("<{number} {number}").as_bytes(), INTEGER_HEAD, &number.to_be_bytes(), b">"].concat()
        };
        let template = Template::new(3, make);
        let mut page = b"[".to_vec();
        assert_eq!(template.append(&mut page, 9_999_999_998, 2), 2);
        assert_eq!(page, [b"[".to_vec(), make(9_999_999_998), make(9_999_999_999)].concat());
        assert_eq!(template.append(&mut page, FIRST + 1, 100), 3, "a page holds no more");
        assert_eq!(template.append(&mut page, FIRST + 1, 0), 0);
    }
    #[test]
    fn in_its_place_a_number_has_always_the_same_record() {
        let template = Template::new(3, |number| format!("{number}{};", (number - FIRST) % 3).into_bytes());
        let page = |first, count| {
            let mut page = Vec::new();
            template.append_in_place(&mut page, first, count);
            String::from_utf8(page).unwrap()
        };
        assert_eq!(page(FIRST + 8, 9), "10000000082;10000000090;", "to the end of what is prepared");
        assert_eq!(page(FIRST + 9, 1), "10000000090;");
        assert_eq!(page(FIRST + 9, 0), "");
    }
}
