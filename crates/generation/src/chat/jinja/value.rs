//! Python's values.

use super::error::{Result, failed};
use super::meter::Meter;
use super::ops;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// Maximum nesting of lists and dicts. JSON is read to 128 levels.
const DEPTH_LIMIT: usize = 200;

/// A value of a template.
///
/// Lists and dicts are immutable (transformers renders in an `ImmutableSandboxedEnvironment`), so they hold no cycles and their
/// depth is known. Mutable state (namespaces, loops) is in the interpreter and is referenced by index.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// An undefined variable, with its name.
    Undefined(Option<Arc<str>>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    /// The result of `safe` and `escape`: `+` escapes the other operand; otherwise it is a string like any other.
    Safe(Arc<str>),
    Seq(Rc<Seq>),
    Dict(Rc<Dict>),
    Namespace(usize),
    Loop(usize),
    Macro(usize),
    Function(Function),
    /// A bound method: the object and the method's name.
    Method(Rc<(Value, Arc<str>)>),
}

/// Global functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Range,
    Dict,
    Namespace,
    RaiseException,
    StrftimeNow,
}

/// Lists, tuples, ranges, views and generators.
#[derive(Debug)]
pub(super) struct Seq {
    pub(super) kind: SeqKind,
    pub(super) items: Vec<Value>,
    depth: usize,
    hashable: bool,
}

#[derive(Debug)]
pub(super) enum SeqKind {
    List,
    Tuple,
    Range {
        start: i128,
        stop: i128,
        step: i128,
    },
    /// `dict.keys()`, `dict.values()` and `dict.items()`, with the name of the type.
    View(&'static str),
    /// The result of `map`, `select` and similar filters; it has no length, and yields each item once.
    Generator {
        next: Cell<usize>,
    },
}

/// Keys and values in order. Look-ups compare one key after the other: dicts of templates are small, and the meter charges for
/// large ones.
#[derive(Debug, Default)]
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    depth: usize,
}

impl Seq {
    /// The items; of a generator those that remain.
    pub(super) fn rest(&self) -> &[Value] {
        match &self.kind {
            SeqKind::Generator { next } => self.items.get(next.replace(self.items.len())..).unwrap_or_default(),
            _ => &self.items,
        }
    }

    /// Whether it can be indexed, and has a length.
    pub(super) fn is_indexed(&self) -> bool {
        matches!(self.kind, SeqKind::List | SeqKind::Tuple | SeqKind::Range { .. })
    }

    pub(super) fn has_len(&self) -> bool {
        !matches!(self.kind, SeqKind::Generator { .. })
    }
}

impl Dict {
    pub(super) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    /// Sets `key`, which must be hashable in Python, to `value`.
    pub(super) fn insert(&mut self, meter: &Meter, key: Value, value: Value) -> Result<()> {
        if !key.is_hashable() {
            return failed(format!("unhashable type: '{}'", key.type_name()));
        }
        self.depth = self.depth.max(deeper(value.depth().max(key.depth()))?);
        match self.position(meter, &key)? {
            Some(index) => self.entries[index].1 = value,
            None => {
                meter.slots(2)?;
                self.entries.push((key, value));
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, meter: &Meter, key: &Value) -> Result<Option<&Value>> {
        Ok(self.position(meter, key)?.map(|index| &self.entries[index].1))
    }

    pub(super) fn get_str(&self, meter: &Meter, key: &str) -> Result<Option<&Value>> {
        meter.steps(self.entries.len() / 8)?;
        let found = self.entries.iter().find(|(other, _)| matches!(other, Value::Str(other) if **other == *key));
        Ok(found.map(|(_, value)| value))
    }

    fn position(&self, meter: &Meter, key: &Value) -> Result<Option<usize>> {
        meter.steps(self.entries.len() / 8)?;
        for (index, (other, _)) in self.entries.iter().enumerate() {
            let same = match (key, other) {
                (Value::Str(key), Value::Str(other)) => key == other,
                _ => ops::equal(meter, key, other)?,
            };
            if same {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

fn deeper(depth: usize) -> Result<usize> {
    if depth < DEPTH_LIMIT {
        Ok(depth + 1)
    } else {
        failed(format!("a value is nested deeper than {DEPTH_LIMIT} levels"))
    }
}

impl Value {
    pub(super) const UNDEFINED: Self = Self::Undefined(None);

    pub(super) fn seq(meter: &Meter, kind: SeqKind, items: Vec<Value>) -> Result<Self> {
        meter.slots(items.len())?;
        Self::uncharged_seq(kind, items)
    }

    fn uncharged_seq(kind: SeqKind, items: Vec<Value>) -> Result<Self> {
        let depth = deeper(items.iter().map(Value::depth).max().unwrap_or(0))?;
        // Computed from the items' own depths, so that shared items are not walked again.
        let hashable = match kind {
            SeqKind::Tuple => items.iter().all(Value::is_hashable),
            SeqKind::Range { .. } => true,
            _ => false,
        };
        Ok(Self::Seq(Rc::new(Seq { kind, items, depth, hashable })))
    }

    pub(super) fn list(meter: &Meter, items: Vec<Value>) -> Result<Self> {
        Self::seq(meter, SeqKind::List, items)
    }

    pub(super) fn tuple(meter: &Meter, items: Vec<Value>) -> Result<Self> {
        Self::seq(meter, SeqKind::Tuple, items)
    }

    pub(super) fn generator(meter: &Meter, items: Vec<Value>) -> Result<Self> {
        Self::seq(meter, SeqKind::Generator { next: Cell::new(0) }, items)
    }

    pub(super) fn str(text: impl Into<Arc<str>>) -> Self {
        Self::Str(text.into())
    }

    /// A new string, which is charged.
    pub(super) fn new_str(meter: &Meter, text: &str) -> Result<Self> {
        meter.bytes(text.len())?;
        Ok(Self::str(text))
    }

    pub(super) fn dict(dict: Dict) -> Self {
        Self::Dict(Rc::new(dict))
    }

    /// From JSON. The size of the JSON bounds the work, so nothing is charged.
    pub(super) fn from_json(json: &serde_json::Value) -> Result<Self> {
        Ok(match json {
            serde_json::Value::Null => Self::None,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(integer), _) => Self::Int(integer),
                (None, float) => Self::Float(float.unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Self::str(text.as_str()),
            serde_json::Value::Array(items) => {
                let items = items.iter().map(Self::from_json).collect::<Result<_>>()?;
                Self::uncharged_seq(SeqKind::List, items)?
            }
            serde_json::Value::Object(fields) => {
                let mut dict = Dict::default();
                for (name, value) in fields {
                    let value = Self::from_json(value)?;
                    dict.depth = dict.depth.max(deeper(value.depth())?);
                    dict.entries.push((Self::str(name.as_str()), value));
                }
                Self::dict(dict)
            }
        })
    }

    fn depth(&self) -> usize {
        match self {
            Self::Seq(seq) => seq.depth,
            Self::Dict(dict) => dict.depth.max(1),
            Self::Method(method) => method.0.depth() + 1,
            _ => 0,
        }
    }

    /// The method `name` of this value.
    pub(super) fn method(&self, name: &Arc<str>) -> Result<Self> {
        deeper(self.depth())?;
        Ok(Self::Method(Rc::new((self.clone(), name.clone()))))
    }

    fn is_hashable(&self) -> bool {
        match self {
            Self::Dict(_) => false,
            Self::Seq(seq) => seq.hashable,
            _ => true,
        }
    }

    /// `bool(value)`.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) | Self::Safe(text) => !text.is_empty(),
            Self::Seq(seq) => !seq.has_len() || !seq.items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            _ => true,
        }
    }

    /// Without the mark of [`Value::Safe`].
    pub(super) fn plain(self) -> Self {
        match self {
            Self::Safe(text) => Self::Str(text),
            value => value,
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// An integer; as in Python, `True` and `False` count as 1 and 0.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Bool(value) => Some(i128::from(*value)),
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => self.as_int().map(|integer| integer as f64),
        }
    }

    /// `type(value).__name__`.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) | Self::Safe(_) => "str",
            Self::Seq(seq) => match seq.kind {
                SeqKind::List => "list",
                SeqKind::Tuple => "tuple",
                SeqKind::Range { .. } => "range",
                SeqKind::View(name) => name,
                SeqKind::Generator { .. } => "generator",
            },
            Self::Dict(_) => "dict",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Macro(_) => "Macro",
            Self::Function(_) => "function",
            Self::Method(_) => "method",
        }
    }

    /// An error if the value is undefined.
    pub(super) fn check_defined(&self) -> Result<()> {
        match self {
            Self::Undefined(Some(name)) => failed(format!("'{}' is undefined", shortened(name))),
            Self::Undefined(None) => failed("a value is undefined"),
            _ => Ok(()),
        }
    }

    /// The items of `for x in value`.
    pub(super) fn iterate(&self, meter: &Meter) -> Result<Vec<Value>> {
        let items: Vec<Value> = match self {
            Self::Undefined(_) => Vec::new(),
            Self::Str(text) => {
                meter.slots(text.len())?;
                text.chars().map(|character| Self::str(&*character.encode_utf8(&mut [0; 4]))).collect()
            }
            Self::Seq(seq) => {
                let rest = seq.rest();
                meter.slots(rest.len())?;
                rest.to_vec()
            }
            Self::Dict(dict) => {
                meter.slots(dict.entries.len())?;
                dict.entries.iter().map(|(key, _)| key.clone()).collect()
            }
            _ => return failed(format!("'{}' object is not iterable", self.type_name())),
        };
        Ok(items)
    }

    /// `len(value)`.
    pub(super) fn len(&self, meter: &Meter) -> Result<usize> {
        match self {
            Self::Undefined(_) => Ok(0),
            Self::Str(text) => {
                meter.bytes(text.len())?;
                Ok(text.chars().count())
            }
            Self::Seq(seq) if seq.has_len() => Ok(seq.items.len()),
            Self::Dict(dict) => Ok(dict.entries.len()),
            _ => failed(format!("object of type '{}' has no len()", self.type_name())),
        }
    }
}

/// A name from the template, shortened for a message.
pub(super) fn shortened(name: &str) -> String {
    const LONGEST: usize = 60;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}..", &name[..end]),
        None => name.to_owned(),
    }
}
