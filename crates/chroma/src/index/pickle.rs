//! `index_metadata.pickle`: which label stands for which id. Read, and never executed.
//!
//! Only what chromadb writes is understood: dictionaries of texts and integers, in an instance of its one class or
//! without one. Nothing is looked up, called or imported; the class is only a name that is passed over.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

/// What the file says beside its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pickle {
    /// How far in the log the index had come; later versions keep that elsewhere.
    pub(crate) max_seq_id: Option<i64>,
    /// How many ids have a label.
    pub(crate) labels: usize,
}

/// Why the file cannot be read, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(crate) struct Damage {
    what: &'static str,
    at: usize,
}

/// A value on the stack. Texts stay where they are in the file.
#[derive(Clone, Debug)]
enum Item {
    Mark,
    Nothing,
    Integer(i64),
    Text(Range<usize>),
    Dictionary(Role),
    /// Something that only passes through: a class, a list, a float.
    Other,
}

/// What a dictionary is, by the name in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The whole: attributes by name.
    Attributes,
    /// Labels by id.
    Labels,
    /// Ids by label, which says the same again.
    Ids,
    /// Of no interest.
    Ignored,
}

/// Pairs of an id and a label: as many, and a sum over them that does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pairs {
    count: usize,
    sum: u64,
}

impl Pairs {
    fn add(&mut self, id: &[u8], label: u64) {
        let mut hasher = DefaultHasher::new();
        (id, label).hash(&mut hasher);
        self.count += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

/// Reads the file; `take` is given each id with its label.
///
/// # Errors
/// The file is damaged, contradicts itself, or holds what chromadb does not write. Or `take` fails.
pub(crate) fn read<'f, E: From<Damage>>(
    file: &'f [u8],
    take: impl FnMut(&'f str, u64) -> Result<(), E>,
) -> Result<Pickle, E> {
    let mut machine = Machine {
        file,
        at: 0,
        stack: Vec::new(),
        memo: HashMap::new(),
        found: Pickle::default(),
        by_id: Pairs::default(),
        by_label: None,
        take,
    };
    while machine.step()? {}
    // The file says everything twice, and a flipped bit seldom says the same twice.
    if machine.by_label.is_some_and(|by_label| by_label != machine.by_id) {
        return Err(machine.damage("the labels of ids are not the ids of labels").into());
    }
    Ok(machine.found)
}

struct Machine<'f, F> {
    file: &'f [u8],
    at: usize,
    stack: Vec<Item>,
    memo: HashMap<u32, Item>,
    found: Pickle,
    by_id: Pairs,
    /// `None`: the file does not say it again.
    by_label: Option<Pairs>,
    take: F,
}

impl<'f, E: From<Damage>, F: FnMut(&'f str, u64) -> Result<(), E>> Machine<'f, F> {
    fn damage(&self, what: &'static str) -> Damage {
        Damage { what, at: self.at }
    }

    fn bytes(&mut self, count: usize) -> Result<Range<usize>, Damage> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.file.len());
        let end = end.ok_or_else(|| self.damage("the file ends too early"))?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    /// An unsigned number of up to eight bytes, the lowest first.
    fn number(&mut self, count: usize) -> Result<u64, Damage> {
        let range = self.bytes(count)?;
        let bytes = &self.file[range];
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, count: usize) -> Result<usize, Damage> {
        let length = self.number(count)?;
        usize::try_from(length).map_err(|_| self.damage("a length is too large"))
    }

    fn line(&mut self) -> Result<(), Damage> {
        let rest = self.file.get(self.at..).unwrap_or_default();
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => self.bytes(end + 1).map(|_| ()),
            None => Err(self.damage("the file ends too early")),
        }
    }

    fn pop(&mut self) -> Result<Item, Damage> {
        self.stack.pop().ok_or_else(|| self.damage("a value is missing"))
    }

    fn push(&mut self, item: Item) {
        self.stack.push(item);
    }

    /// Carries out one operation; false: it was the last.
    fn step(&mut self) -> Result<bool, E> {
        let operation = self.bytes(1)?;
        match self.file[operation.start] {
            b'.' => {
                // What stops must have left its one value, else something was cut out.
                let is_whole = self.stack.len() == 1;
                return if is_whole { Ok(false) } else { Err(self.damage("values are left over").into()) };
            }
            0x80 => {
                self.number(1)?;
            }
            0x95 => {
                self.number(8)?;
            }
            b'(' => self.push(Item::Mark),
            b'}' => {
                let role = self.role();
                if role == Role::Ids {
                    self.by_label = Some(self.by_label.unwrap_or_default());
                }
                self.push(Item::Dictionary(role));
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&key, &value)?;
            }
            b'u' => self.set_all()?,
            b'b' => {
                self.pop()?;
            }
            operation => self.load(operation)?,
        }
        Ok(true)
    }

    /// Operations that put a value on the stack, or keep one for later.
    fn load(&mut self, operation: u8) -> Result<(), Damage> {
        let item = match operation {
            b'N' => Item::Nothing,
            0x88 | 0x89 | b')' | b']' => Item::Other,
            b'G' => self.bytes(8).map(|_| Item::Other)?,
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            b'J' => {
                let number = u32::try_from(self.number(4)?).unwrap_or_default();
                Item::Integer(i64::from(number.cast_signed()))
            }
            0x8a => {
                let count = self.length(1)?;
                self.long(count)?
            }
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b'c' => {
                self.line()?;
                self.line()?;
                Item::Other
            }
            // A class by its two names, or an instance of a class and its arguments: two values become one.
            0x93 | 0x81 => {
                self.pop()?;
                self.pop()?;
                Item::Other
            }
            0x94 | b'q' | b'r' => return self.keep(operation),
            b'h' => self.kept(1)?,
            b'j' => self.kept(4)?,
            _ => return Err(self.damage("there is an operation that chromadb does not write")),
        };
        self.push(item);
        Ok(())
    }

    fn integer(&mut self, bytes: usize) -> Result<Item, Damage> {
        let number = self.number(bytes)?;
        i64::try_from(number).map(Item::Integer).map_err(|_| self.damage("a number is too large"))
    }

    /// A number of any length with its sign; more than 64 bits are no number of ours.
    fn long(&mut self, bytes: usize) -> Result<Item, Damage> {
        if bytes > 8 {
            self.bytes(bytes)?;
            return Ok(Item::Other);
        }
        if bytes == 0 {
            return Ok(Item::Integer(0));
        }
        let number = self.number(bytes)?;
        let unused = 64 - 8 * u32::try_from(bytes).unwrap_or(8);
        Ok(Item::Integer((number << unused).cast_signed() >> unused))
    }

    fn text(&mut self, length_bytes: usize) -> Result<Item, Damage> {
        let length = self.length(length_bytes)?;
        self.bytes(length).map(Item::Text)
    }

    fn keep(&mut self, operation: u8) -> Result<(), Damage> {
        let next = u32::try_from(self.memo.len()).map_err(|_| self.damage("too many values are kept"))?;
        let place = match operation {
            b'q' => u32::try_from(self.number(1)?).unwrap_or(next),
            b'r' => u32::try_from(self.number(4)?).unwrap_or(next),
            _ => next,
        };
        let top = self.stack.last().cloned().ok_or_else(|| self.damage("a value is missing"))?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn kept(&mut self, bytes: usize) -> Result<Item, Damage> {
        let place = self.number(bytes)?;
        let item = u32::try_from(place).ok().and_then(|place| self.memo.get(&place)).cloned();
        item.ok_or_else(|| self.damage("a value was not kept"))
    }

    /// What a dictionary is that begins now.
    fn role(&self) -> Role {
        match self.stack.last() {
            Some(Item::Text(name)) if self.file[name.clone()] == *b"id_to_label" => Role::Labels,
            Some(Item::Text(name)) if self.file[name.clone()] == *b"label_to_id" => Role::Ids,
            Some(Item::Text(_)) => Role::Ignored,
            _ => Role::Attributes,
        }
    }

    fn label(&self, number: i64) -> Result<u64, Damage> {
        u64::try_from(number).map_err(|_| self.damage("a label is negative"))
    }

    fn set_all(&mut self) -> Result<(), E> {
        let mark = self.stack.iter().rposition(|item| matches!(item, Item::Mark));
        let mark = mark.ok_or_else(|| self.damage("a value is missing"))?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        if items.len() % 2 == 1 {
            return Err(self.damage("a key is without its value").into());
        }
        items.chunks_exact(2).try_for_each(|pair| self.set(&pair[0], &pair[1]))
    }

    /// Sets one entry of the dictionary on top of the stack.
    fn set(&mut self, key: &Item, value: &Item) -> Result<(), E> {
        let Some(Item::Dictionary(role)) = self.stack.last() else {
            return Err(self.damage("there is no dictionary to set an entry of").into());
        };
        match (role, key, value) {
            (Role::Ignored, ..) => Ok(()),
            (Role::Attributes, Item::Text(name), Item::Integer(number)) => {
                if self.file[name.clone()] == *b"max_seq_id" {
                    self.found.max_seq_id = Some(*number);
                }
                Ok(())
            }
            (Role::Attributes, ..) => Ok(()),
            (Role::Labels, Item::Text(id), Item::Integer(label)) => {
                let label = self.label(*label)?;
                self.by_id.add(&self.file[id.clone()], label);
                let id = std::str::from_utf8(&self.file[id.clone()]);
                let id = id.map_err(|_| self.damage("an id is not UTF-8"))?;
                self.found.labels += 1;
                (self.take)(id, label)
            }
            (Role::Ids, Item::Integer(label), Item::Text(id)) => {
                let (label, mut pairs) = (self.label(*label)?, self.by_label.unwrap_or_default());
                pairs.add(&self.file[id.clone()], label);
                self.by_label = Some(pairs);
                Ok(())
            }
            (Role::Labels | Role::Ids, ..) => {
                Err(self.damage("an id or its label is of another type").into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(file: &[u8]) -> Result<(Pickle, Vec<(String, u64)>), Damage> {
        let mut labels = Vec::new();
        let pickle = read(file, |id, label| {
            labels.push((id.to_owned(), label));
            Ok::<_, Damage>(())
        })?;
        Ok((pickle, labels))
    }

    /// `pickle.dumps({"max_seq_id": 300, "id_to_label": {"a": 1, "é": 70000}, "label_to_id": {1: "a", 70000: "é"},
    /// "dimensionality": None}, protocol)`, of protocols 3 and 5.
    const PROTOCOLS: [&[u8]; 2] = [
        b"\x80\x03}q\x00(X\n\x00\x00\x00max_seq_idq\x01M,\x01X\x0b\x00\x00\x00id_to_labelq\x02}q\x03(X\x01\x00\x00\x00aq\x04K\x01X\x02\x00\x00\x00\xc3\xa9q\x05Jp\x11\x01\x00uX\x0b\x00\x00\x00label_to_idq\x06}q\x07(K\x01h\x04Jp\x11\x01\x00h\x05uX\x0e\x00\x00\x00dimensionalityq\x08Nu.",
        b"\x80\x05\x95f\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\nmax_seq_id\x94M,\x01\x8c\x0bid_to_label\x94}\x94(\x8c\x01a\x94K\x01\x8c\x02\xc3\xa9\x94Jp\x11\x01\x00u\x8c\x0blabel_to_id\x94}\x94(K\x01h\x04Jp\x11\x01\x00h\x05u\x8c\x0edimensionality\x94Nu.",
    ];

    #[test]
    fn dictionaries_of_old_and_new_protocols() {
        for file in PROTOCOLS {
            let (pickle, labels) = labels(file).unwrap();
            assert_eq!(pickle, Pickle { max_seq_id: Some(300), labels: 2 });
            assert_eq!(labels, [("a".to_owned(), 1), ("é".to_owned(), 70_000)]);
        }
    }

    #[test]
    fn a_flipped_bit_never_gives_an_id_another_label_in_silence() {
        for file in PROTOCOLS {
            let (_, good) = labels(file).unwrap();
            for (at, bit) in (0..file.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut file = file.to_vec();
                file[at] ^= 1 << bit;
                let Ok((_, found)) = labels(&file) else { continue };
                // An id that is another altogether is no record's; none of the known ones has moved.
                let moved = found
                    .iter()
                    .find(|(id, label)| good.iter().any(|(known, own)| known == id && own != label));
                assert_eq!(moved, None, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn whatever_is_cut_or_flipped_is_an_error_and_no_panic() {
        for file in PROTOCOLS {
            for end in 0..file.len() {
                assert!(labels(&file[..end]).is_err(), "cut at {end}");
            }
            for at in 0..file.len() {
                for flip in [0xFF, 0x80, 1] {
                    let mut file = file.to_vec();
                    file[at] ^= flip;
                    // Some flips only change a text; none may bring the reader down.
                    let _read = labels(&file);
                }
            }
        }
        assert!(labels(b"cos\nsystem\n(S'true'\ntR.").is_err(), "nothing is called");
    }
}
