//! Finding a field by its name. It happens for every field of every object that is read, filled in or checked, mostly
//! for fields that are not set, so it is one probe of a table and one comparison rather than a binary search.

const FREE: u16 = u16::MAX;
/// Names of custom types are their authors' choice; those that collide more often than this are searched for in order.
const LONGEST: usize = 16;

/// Where names are in a list. Its length is a power of two, or zero where the names collide too much.
#[derive(Debug, Clone)]
pub(crate) struct Names(Box<[u16]>);

impl Names {
    /// The table of a list of names.
    pub fn of<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> Self {
        let mut slots = vec![FREE; (names.len() * 4 + 1).next_power_of_two()];
        for (index, name) in (0..FREE).zip(names) {
            let Some(place) = probes(slots.len(), name).find(|at| slots.get(*at) == Some(&FREE)) else {
                return Self(Box::default());
            };
            if let Some(slot) = slots.get_mut(place) {
                *slot = index;
            }
        }
        Self(slots.into_boxed_slice())
    }

    /// The place of a name, which `is` compares with those that it may be; `Err` when the table does not know.
    #[inline]
    pub fn find(&self, name: &str, is: impl Fn(u16) -> bool) -> Result<Option<u16>, ()> {
        if self.0.is_empty() {
            return Err(());
        }
        for at in probes(self.0.len(), name) {
            match self.0.get(at) {
                Some(&index) if index != FREE => {
                    if is(index) {
                        return Ok(Some(index));
                    }
                }
                _ => break,
            }
        }
        Ok(None)
    }
}

/// Where a name may be, in order.
#[inline]
fn probes(size: usize, name: &str) -> impl Iterator<Item = usize> {
    let (start, mask) = (hash(name), size - 1);
    (0..LONGEST).map(move |step| start.wrapping_add(step) & mask)
}

/// Of the length, the first and the last eight bytes: names of fields differ there.
#[inline]
fn hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let mixed = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(head), Some(tail)) => u64::from_le_bytes(*head) ^ u64::from_le_bytes(*tail).rotate_left(23),
        _ => bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
    };
    let spread = (mixed ^ (bytes.len() as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn every_name_is_found_and_no_other() {
        let names: Vec<String> = (0..300).map(|number| format!("field{number}")).collect();
        for count in [0, 1, 2, 3, 40, 300] {
            let some = &names[..count];
            let table = Names::of(some.iter().map(String::as_str));
            for (index, name) in names.iter().enumerate() {
                let wanted = (index < count).then_some(index as u16);
                match table.find(name, |at| some[usize::from(at)] == *name) {
                    Ok(found) => assert_eq!(found, wanted, "{name} of {count}"),
                    Err(()) => assert!(count > 40, "{count}"),
                }
            }
        }
    }

    #[test]
    fn names_that_collide_are_left_to_another_search() {
        let names: Vec<String> = (0..20).map(|number| format!("abcdefgh{number:08}ijklmnop")).collect();
        let table = Names::of(names.iter().map(String::as_str));
        assert_eq!(table.find("abcdefgh00000003ijklmnop", |_| true), Err(()));
    }
}
