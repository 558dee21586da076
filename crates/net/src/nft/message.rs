use super::expr::Expressions;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// Which packets a table sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    /// Those of IPv4.
    #[default]
    V4 = 2,
    /// Those of IPv6.
    V6 = 10,
}

const F_REQUEST: u16 = 1;
const F_ACK: u16 = 4;
const F_CREATE: u16 = 0x400;
const F_APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

/// At most so many elements go into a message: beyond 64 KiB a nest's length wraps without a word.
const ELEMENTS_PER_MESSAGE: usize = 1000;

/// Attributes, one after the other.
#[derive(Debug, Default, Clone)]
pub(crate) struct Attributes(pub(super) Vec<u8>);

impl Attributes {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
        self
    }

    /// Attributes that are encoded already.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.put(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// Numbers are big-endian on this wire.
    pub(crate) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.put(kind | NESTED, &inner.0)
    }
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// `NF_INET_PRE_ROUTING` 0, `LOCAL_IN` 1, `FORWARD` 2, `LOCAL_OUT` 3, `POST_ROUTING` 4.
    pub number: u32,
    /// Lower comes first; destination translation is -100, source translation 100.
    pub priority: i32,
    /// `nat` or `filter`.
    pub kind: &'static str,
}

/// What an element leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing: the element is just there.
    None,
    /// On to another chain.
    Goto(String),
    /// These bytes, each field padded to four.
    Data(Vec<u8>),
}

/// An element of a set or map: its key's fields are padded to four bytes each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The key.
    pub key: Vec<u8>,
    /// What it leads to.
    pub value: Verdict,
}

/// What a set or map is made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct MapSpec {
    /// The type as `nft` prints it: six bits for each field.
    pub key_type: u32,
    /// Bytes of the key.
    pub key_len: u32,
    /// `None`: a set. `Some(None)`: a map to verdicts. `Some(Some((type, bytes)))`: a map to data.
    pub data: Option<Option<(u32, u32)>>,
    /// Elements come from packets and go after a while; at most so many.
    pub dynamic: Option<u32>,
}

/// One transaction.
#[derive(Debug, Default)]
pub struct Batch {
    messages: Vec<Vec<u8>>,
    table: String,
    family: Family,
    set_id: u32,
}

impl Batch {
    /// A transaction on one table of the `ip` family.
    pub fn new(table: &str) -> Self {
        Self::of(Family::V4, table)
    }

    /// A transaction on one table of a family.
    pub fn of(family: Family, table: &str) -> Self {
        Self { messages: Vec::new(), table: table.to_owned(), family, set_id: 0 }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn push(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
        self.messages.push(message(
            (NFNL_SUBSYS_NFTABLES << 8) | kind,
            flags,
            self.family as u8,
            0,
            &attributes.0,
        ));
    }

    fn of_table(&self, kind: u16) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.text(kind, &self.table);
        attributes
    }

    /// Makes the table if it is not there.
    pub fn table(&mut self) -> &mut Self {
        let attributes = self.of_table(1);
        self.push(NEWTABLE, F_CREATE, &attributes);
        self
    }

    /// Removes the table, which must be there, with everything in it.
    pub fn delete_table(&mut self) -> &mut Self {
        let attributes = self.of_table(1);
        self.push(DELTABLE, 0, &attributes);
        self
    }

    /// Makes a chain; a base chain where a hook is given.
    pub fn chain(&mut self, name: &str, hook: Option<Hook>) -> &mut Self {
        let mut attributes = self.of_table(1);
        attributes.text(3, name);
        if let Some(hook) = hook {
            attributes.nest(4, |nest| {
                nest.number(1, hook.number).put(2, &hook.priority.to_be_bytes());
            });
            attributes.text(7, hook.kind);
        }
        self.push(NEWCHAIN, F_CREATE, &attributes);
        self
    }

    /// Adds a rule to a chain.
    pub fn rule(&mut self, chain: &str, expressions: &Expressions) -> &mut Self {
        let mut attributes = self.of_table(1);
        attributes.text(2, chain);
        attributes.nest(4, |nest| nest.0.extend_from_slice(expressions.bytes()));
        self.push(NEWRULE, F_CREATE | F_APPEND, &attributes);
        self
    }

    /// Makes a set or map.
    pub fn map(&mut self, name: &str, spec: MapSpec) -> &mut Self {
        const IS_MAP: u32 = 0x8;
        const HAS_TIMEOUT: u32 = 0x10;
        const FROM_PACKETS: u32 = 0x20;
        self.set_id += 1;
        let mut flags = if spec.data.is_some() { IS_MAP } else { 0 };
        if spec.dynamic.is_some() {
            flags |= HAS_TIMEOUT | FROM_PACKETS;
        }
        let mut attributes = self.of_table(1);
        attributes.text(2, name).number(3, flags).number(4, spec.key_type).number(5, spec.key_len);
        match spec.data {
            Some(None) => {
                attributes.number(6, 0xffff_ff00);
            }
            Some(Some((kind, length))) => {
                attributes.number(6, kind).number(7, length);
            }
            None => {}
        }
        if let Some(size) = spec.dynamic {
            attributes.nest(9, |nest| {
                nest.number(1, size);
            });
        }
        attributes.number(10, self.set_id);
        self.push(NEWSET, F_CREATE, &attributes);
        self
    }

    /// Adds elements.
    pub fn add(&mut self, map: &str, elements: &[Element]) -> &mut Self {
        self.elements(NEWSETELEM, F_CREATE, map, elements, true)
    }

    /// Removes elements, which must be there.
    pub fn remove(&mut self, map: &str, elements: &[Element]) -> &mut Self {
        self.elements(DELSETELEM, 0, map, elements, false)
    }

    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        map: &str,
        elements: &[Element],
        with_data: bool,
    ) -> &mut Self {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let mut attributes = self.of_table(1);
            attributes.text(2, map);
            attributes.nest(3, |list| {
                for element in chunk {
                    list.nest(1, |one| encode(element, with_data, one));
                }
            });
            self.push(kind, flags, &attributes);
        }
        self
    }

    /// The bytes of the transaction. Only its last message asks for an answer: a thousand answers overrun the socket.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = message(BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
        for (index, body) in self.messages.iter().enumerate() {
            let mut body = body.clone();
            let last = index + 1 == self.messages.len();
            if let (true, Some(flags)) = (last, body.first_chunk_mut::<8>()) {
                let [.., low, high] = flags;
                let asked = u16::from_ne_bytes([*low, *high]) | F_ACK;
                [*low, *high] = asked.to_ne_bytes();
            }
            let sequence = u32::try_from(index + 1).unwrap_or(u32::MAX);
            if let Some(field) = body.get_mut(8..12) {
                field.copy_from_slice(&sequence.to_ne_bytes());
            }
            out.extend_from_slice(&body);
        }
        out.extend_from_slice(&message(BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES, &[]));
        out
    }
}

fn encode(element: &Element, with_data: bool, one: &mut Attributes) {
    one.nest(1, |key| {
        key.put(1, &element.key);
    });
    match &element.value {
        Verdict::Goto(chain) if with_data => {
            const GOTO: i32 = -4;
            one.nest(2, |data| {
                data.nest(2, |verdict| {
                    verdict.put(1, &GOTO.to_be_bytes()).text(2, chain);
                });
            });
        }
        Verdict::Data(bytes) if with_data => {
            one.nest(2, |data| {
                data.put(1, bytes);
            });
        }
        _ => {}
    }
}

fn message(kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(20 + body.len());
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&(flags | F_REQUEST).to_ne_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[family, 0]);
    out.extend_from_slice(&resource.to_be_bytes());
    out.extend_from_slice(body);
    out
}
