//! Lists of modules in the words of transformers: beginnings of paths, ends of paths, regular expressions.
//!
//! `should_convert_module` in `transformers/quantizers/quantizers_utils.py` (5.23) skips a module if
//! `re.match(rf"(?:{key}){boundary}", full_name) or full_name.endswith(key)`, where the boundary is behind or before a dot,
//! or the end.

use crate::LoadError;
use std::{collections::BTreeSet, iter::Peekable, str::Chars};

/// Bounds on patterns, so that none takes long.
const MOST_CHARACTERS: usize = 1000;
const MOST_NESTED: usize = 20;
const MOST_REPEATS: usize = 1000;
const MOST_STEPS: usize = 4000;

/// Modules that stay dense.
#[derive(Clone, Debug)]
pub(crate) struct SkipList(Vec<(String, Program)>);

impl SkipList {
    /// # Errors
    /// [`LoadError::SkipModule`] for a pattern that is not a regular expression, or of an unsupported kind.
    pub fn parse(patterns: &[String]) -> Result<Self, LoadError> {
        let parse = |pattern: &String| match Parser::parse(pattern).and_then(|node| Program::new(&node)) {
            Ok(program) => Ok((pattern.clone(), program)),
            Err(reason) => Err(LoadError::SkipModule { pattern: pattern.clone(), reason }),
        };
        patterns.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Numbers of the patterns that match the module of that path.
    pub fn matching(&self, module: &str) -> impl Iterator<Item = usize> {
        let path: Vec<char> = module.chars().collect();
        let matches = move |(key, program): &(String, Program)| module.ends_with(key.as_str()) || program.begins(&path);
        self.0.iter().enumerate().filter(move |(_, entry)| matches(entry)).map(|(number, _)| number)
    }
}

/// A regular expression as read.
#[derive(Clone, Debug)]
enum Node {
    Any,
    Class(Class),
    Start,
    End,
    Sequence(Vec<Node>),
    Alternatives(Vec<Node>),
    Repeat { node: Box<Node>, least: usize, most: Option<usize> },
}

/// One of these characters, or none of these.
#[derive(Clone, Debug)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn fits(&self, found: char) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&found)) != self.negated
    }
}

/// A regular expression as steps of an automaton. It is in many steps at once, so that no pattern is searched twice in one
/// place, as backtracking would.
#[derive(Clone, Debug, Default)]
struct Program {
    steps: Vec<Step>,
    /// Visits of nodes while compiling.
    visits: usize,
}

#[derive(Clone, Debug)]
enum Step {
    /// Takes a character, `None` for any, and goes on.
    Take(Option<Class>),
    Start,
    End,
    /// Goes on and to another step.
    Fork(usize),
    Jump(usize),
}

impl Program {
    fn new(node: &Node) -> Parsed<Self> {
        let mut program = Self::default();
        program.compile(node)?;
        Ok(program)
    }

    fn compile(&mut self, node: &Node) -> Parsed<()> {
        self.visits += 1;
        if self.visits > MOST_STEPS {
            return Err("it is too large with its repetitions written out".into());
        }
        match node {
            Node::Any => self.steps.push(Step::Take(None)),
            Node::Class(class) => self.steps.push(Step::Take(Some(class.clone()))),
            Node::Start => self.steps.push(Step::Start),
            Node::End => self.steps.push(Step::End),
            Node::Sequence(nodes) => nodes.iter().try_for_each(|node| self.compile(node))?,
            Node::Alternatives(nodes) => {
                let mut jumps = Vec::new();
                for (number, node) in nodes.iter().enumerate() {
                    let fork = self.push_open(number + 1 < nodes.len());
                    self.compile(node)?;
                    jumps.extend(self.push_open(number + 1 < nodes.len()));
                    self.land(fork, Step::Fork);
                }
                jumps.into_iter().for_each(|jump| self.land(Some(jump), Step::Jump));
            }
            Node::Repeat { node, least, most } => {
                (0..*least).try_for_each(|_| self.compile(node))?;
                let optional = most.map_or(1, |most| most - least);
                let mut forks = Vec::new();
                for _ in 0..optional {
                    forks.extend(self.push_open(true));
                    self.compile(node)?;
                }
                if let (None, Some(&first)) = (most, forks.first()) {
                    self.steps.push(Step::Jump(first));
                }
                forks.into_iter().for_each(|fork| self.land(Some(fork), Step::Fork));
            }
        }
        Ok(())
    }

    /// A step whose kind and aim are set by [`Self::land`].
    fn push_open(&mut self, wanted: bool) -> Option<usize> {
        wanted.then(|| {
            self.steps.push(Step::Jump(self.steps.len() + 1));
            self.steps.len() - 1
        })
    }

    /// Lets an open step aim at what is compiled next.
    fn land(&mut self, open: Option<usize>, kind: fn(usize) -> Step) {
        let aim = self.steps.len();
        if let Some(step) = open.and_then(|open| self.steps.get_mut(open)) {
            *step = kind(aim);
        }
    }

    /// Whether some match at the beginning of `path` ends at a boundary.
    fn begins(&self, path: &[char]) -> bool {
        let mut states = BTreeSet::from([0]);
        for at in 0..=path.len() {
            let states_here = self.reach(states, at, path.len());
            let boundary = (at > 0 && path.get(at - 1) == Some(&'.')) || path.get(at).is_none_or(|after| *after == '.');
            if boundary && states_here.contains(&self.steps.len()) {
                return true;
            }
            let Some(&next) = path.get(at) else { return false };
            let takes = |step: &usize| match self.steps.get(*step) {
                Some(Step::Take(class)) => class.as_ref().is_none_or(|class| class.fits(next)),
                _ => false,
            };
            states = states_here.into_iter().filter(takes).map(|step| step + 1).collect();
        }
        false
    }

    /// All steps that can be reached from `states` without taking a character.
    fn reach(&self, states: BTreeSet<usize>, at: usize, length: usize) -> BTreeSet<usize> {
        let (mut reached, mut open) = (BTreeSet::new(), Vec::from_iter(states));
        while let Some(step) = open.pop() {
            if !reached.insert(step) {
                continue;
            }
            match self.steps.get(step) {
                Some(Step::Start) if at == 0 => open.push(step + 1),
                Some(Step::End) if at == length => open.push(step + 1),
                Some(Step::Fork(other)) => open.extend([step + 1, *other]),
                Some(Step::Jump(other)) => open.push(*other),
                _ => {}
            }
        }
        reached
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    nested: usize,
}

type Parsed<T> = Result<T, String>;

impl<'a> Parser<'a> {
    fn parse(pattern: &'a str) -> Parsed<Node> {
        if pattern.chars().count() > MOST_CHARACTERS {
            return Err(format!("it has more than {MOST_CHARACTERS} characters"));
        }
        let mut parser = Parser { rest: pattern.chars().peekable(), nested: 0 };
        let node = parser.alternatives()?;
        match parser.rest.next() {
            None => Ok(node),
            Some(_) => Err("a `)` closes nothing".into()),
        }
    }

    fn alternatives(&mut self) -> Parsed<Node> {
        let mut branches = vec![self.sequence()?];
        while self.rest.next_if_eq(&'|').is_some() {
            branches.push(self.sequence()?);
        }
        Ok(Node::Alternatives(branches))
    }

    fn sequence(&mut self) -> Parsed<Node> {
        let mut nodes = Vec::new();
        while let Some(next) = self.rest.next_if(|next| !matches!(next, '|' | ')')) {
            let atom = match next {
                '.' => Node::Any,
                '^' => Node::Start,
                '$' => Node::End,
                '(' => self.group()?,
                '[' => self.class()?,
                '\\' => Node::class(false, self.escape()?),
                '*' | '+' | '?' => return Err(format!("`{next}` repeats nothing")),
                // A brace that begins no count stands for itself in Python: none is in a module's path.
                literal => Node::class(false, vec![(literal, literal)]),
            };
            nodes.push(self.repeated(atom)?);
        }
        Ok(Node::Sequence(nodes))
    }

    fn group(&mut self) -> Parsed<Node> {
        self.nested += 1;
        if self.nested > MOST_NESTED {
            return Err(format!("more than {MOST_NESTED} groups are nested"));
        }
        if self.rest.next_if_eq(&'?').is_some() && self.rest.next() != Some(':') {
            return Err("of the groups that begin with `(?` only `(?:` is supported".into());
        }
        let node = self.alternatives()?;
        self.nested -= 1;
        self.rest.next().map(|_| node).ok_or_else(|| "a `(` is not closed".into())
    }

    /// What follows `[`.
    fn class(&mut self) -> Parsed<Node> {
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        loop {
            let next = self.rest.next().ok_or("a `[` is not closed")?;
            let low = match next {
                ']' if !ranges.is_empty() => return Ok(Node::class(negated, ranges)),
                '\\' => match self.escape()?.as_slice() {
                    [(low, high)] if low == high => *low,
                    several => {
                        ranges.extend_from_slice(several);
                        continue;
                    }
                },
                literal => literal,
            };
            let mut ahead = self.rest.clone();
            let high = match (ahead.next(), ahead.next()) {
                (Some('-'), Some(high)) if high != ']' && high != '\\' => {
                    self.rest = ahead;
                    high
                }
                _ => low,
            };
            if high < low {
                return Err(format!("the range `{low}-{high}` is empty"));
            }
            ranges.push((low, high));
        }
    }

    /// What follows a backslash, as ranges of characters.
    fn escape(&mut self) -> Parsed<Vec<(char, char)>> {
        match self.rest.next() {
            Some('d') => Ok(vec![('0', '9')]),
            Some('w') => Ok(vec![('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')]),
            Some(literal) if !literal.is_ascii_alphanumeric() => Ok(vec![(literal, literal)]),
            Some(other) => Err(format!("`\\{other}` is not supported")),
            None => Err("it ends in a backslash".into()),
        }
    }

    fn repeated(&mut self, mut node: Node) -> Parsed<Node> {
        let mut repeats = 0;
        while let Some((least, most)) = self.count()? {
            // Lazy and greedy repetition match the same paths.
            let lazy = self.rest.next_if_eq(&'?').is_some();
            repeats += 1;
            if repeats > 1 || (!lazy && self.rest.peek() == Some(&'+')) {
                return Err("a repetition is repeated".into());
            }
            node = Node::Repeat { node: Box::new(node), least, most };
        }
        Ok(node)
    }

    /// A repetition: least and most.
    fn count(&mut self) -> Parsed<Option<(usize, Option<usize>)>> {
        let (least, most) = match self.rest.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.braces(),
            _ => return Ok(None),
        };
        self.rest.next();
        Ok(Some((least, most)))
    }

    /// `{2}`, `{2,}`, `{,3}` or `{2,3}`.
    fn braces(&mut self) -> Parsed<Option<(usize, Option<usize>)>> {
        let text: String = self.rest.by_ref().skip(1).take_while(|next| *next != '}').collect();
        let invalid = || format!("`{{{text}}}` is no repetition of up to {MOST_REPEATS}");
        let number = |digits: &str| digits.parse().ok().filter(|count| *count <= MOST_REPEATS).ok_or_else(invalid);
        let (least, most) = text.split_once(',').unwrap_or((&text, &text));
        let least = if least.is_empty() && text.len() > 1 { 0 } else { number(least)? };
        let most = if most.is_empty() { None } else { Some(number(most)?) };
        if most.is_some_and(|most| most < least) { Err(invalid()) } else { Ok(Some((least, most))) }
    }
}

impl Node {
    fn class(negated: bool, ranges: Vec<(char, char)>) -> Self {
        Self::Class(Class { negated, ranges })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skips(pattern: &str, module: &str) -> bool {
        SkipList::parse(&[pattern.to_owned()]).unwrap().matching(module).next().is_some()
    }

    /// The answers are those of `not should_convert_module(module, [pattern])` in transformers 5.23.
    #[test]
    fn modules_are_matched_as_in_transformers() {
        let attention = "model.layers.1.self_attn.q_proj";
        for (pattern, module, expected) in [
            ("lm_head", "lm_head", true),
            ("q_proj", attention, true),
            ("proj", attention, true),
            ("q_pro", attention, false),
            ("self_attn", attention, false),
            ("model.layers.1", attention, true),
            ("model.layers.1", "model.layers.11.self_attn.q_proj", false),
            ("model.layers.1.", "model.layers.1.mlp.gate", true),
            ("mlp.gate", "model.layers.1.mlp.gate_proj", false),
            (".*mlp.gate", "model.layers.1.mlp.gate_proj", false),
            (".*mlp.gate", "model.layers.1.mlp.gate", true),
            (".*self_attn", attention, true),
            ("model.layers.*", attention, true),
            (r"model\.layers\.\d+\.mlp", "model.layers.10.mlp.up_proj", true),
            (r"model\.layers\.\d+\.mlp", attention, false),
            (r"model\.layers\.[0-3]\.", attention, true),
            (r"model\.layers\.[^0-3]\.", attention, false),
            (r"model\.layers\.(0|1)\.(?:mlp|self_attn)", attention, true),
            (r"model\.layers\.(0|2)\.(?:mlp|self_attn)", attention, false),
            ("a|b", "b.c", true),
            ("ab{2}c", "abbc", true),
            ("ab{2}c", "abc", false),
            ("ab{2,}", "abbbb", true),
            ("ab{,2}", "abbb", false),
            ("(ab)+?", "abab.c", true),
            ("^model$", "model", true),
            ("^model$", "model.a", false),
            (r"[\w.]+_proj", attention, true),
            ("[]a]+", "a]", true),
            ("", "anything", true),
        ] {
            assert_eq!(skips(pattern, module), expected, "{pattern} {module}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for pattern in [
            "a)", "(a", "[a", "[b-a]", "*a", "a**", "a++", r"\", r"\bx", "(?=a)", "a{3,2}", "a{x}", "a{2000}", "a{",
            "a{}",
        ] {
            let error = SkipList::parse(&[pattern.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(pattern), "{error}");
        }
        assert!(SkipList::parse(&["(".repeat(500)]).is_err());
        assert!(SkipList::parse(&["a".repeat(5000)]).is_err());
    }

    #[test]
    fn no_pattern_takes_long() {
        let nested = format!("{}a{}b", "(".repeat(15), ")*".repeat(15));
        let module = "a".repeat(200);
        let start = std::time::Instant::now();
        assert!(!skips(&nested, &module));
        assert!(!skips("(a|a)*(a|a)*(a|a)*b", &module));
        assert!(SkipList::parse(&["(((){1000}){1000}){1000}".to_owned()]).is_err());
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}
