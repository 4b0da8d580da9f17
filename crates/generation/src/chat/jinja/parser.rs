//! Parses statements.

use super::ast::{Block, CallArguments, Expr, For, Macro, Postfix, Statement, StatementKind, Target};
use super::error::{Error, Result};
use super::lexer::{Token, tokenize};
use std::sync::Arc;

/// Maximum nesting of blocks and brackets, similar to Python's.
const DEPTH_LIMIT: usize = 100;

pub(super) struct Parser {
    tokens: Vec<(Token, usize)>,
    position: usize,
    depth: usize,
    /// Number of enclosing loops, for `break`.
    loops: usize,
}

/// Parses a whole template.
pub(super) fn parse(source: &str) -> Result<Block> {
    let mut parser = Parser { tokens: tokenize(source)?, position: 0, depth: 0, loops: 0 };
    let block = parser.block(&[])?;
    match parser.peek() {
        Token::End => Ok(block),
        _ => parser.error(format!("unexpected {}", parser.found())),
    }
}

impl Parser {
    pub(super) fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> &Token {
        // The last token is the end, which is never consumed.
        self.tokens.get(self.position + ahead).map_or(&Token::End, |(token, _)| token)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.position).or(self.tokens.last()).map_or(1, |(_, line)| *line)
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if self.position + 1 < self.tokens.len() {
            self.position += 1;
        }
        token
    }

    pub(super) fn error<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(Error::at(self.line(), what))
    }

    pub(super) fn found(&self) -> String {
        describe(self.peek())
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(found) if found == name)
    }

    pub(super) fn is_operator(&self, operator: &str) -> bool {
        matches!(self.peek(), Token::Operator(found) if *found == operator)
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn expect_operator(&mut self, operator: &str) -> Result<()> {
        if self.skip_operator(operator) {
            return Ok(());
        }
        self.error(format!("expected `{operator}`, found {}", self.found()))
    }

    pub(super) fn expect_name(&mut self) -> Result<Arc<str>> {
        match self.peek() {
            Token::Name(name) => {
                let name = name.as_str().into();
                self.next();
                Ok(name)
            }
            _ => self.error(format!("expected a name, found {}", self.found())),
        }
    }

    fn expect(&mut self, token: &Token, what: &str) -> Result<()> {
        if self.peek() == token {
            self.next();
            return Ok(());
        }
        self.error(format!("expected {what}, found {}", self.found()))
    }

    /// Runs `parse` one level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH_LIMIT {
            return self.error(format!("blocks or brackets are nested deeper than {DEPTH_LIMIT} levels"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Statements up to a tag named in `ends`, which is not consumed.
    fn block(&mut self, ends: &[&str]) -> Result<Block> {
        let mut statements = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.peek() {
                Token::End if ends.is_empty() => return Ok(Block(statements)),
                Token::End => return self.error(format!("the template ends before `{}`", ends.join("` or `"))),
                Token::Text(_) => match self.next() {
                    Token::Text(text) => StatementKind::Text(text),
                    _ => continue,
                },
                Token::PrintBegin => {
                    self.next();
                    let value = self.tuple(true)?;
                    self.expect(&Token::PrintEnd, "the end of the tag")?;
                    StatementKind::Print(value)
                }
                _ => {
                    if ends.iter().any(|end| matches!(self.peek_at(1), Token::Name(name) if name == end)) {
                        return Ok(Block(statements));
                    }
                    self.expect(&Token::BlockBegin, "a tag")?;
                    let kind = self.nested(Self::statement)?;
                    self.expect(&Token::BlockEnd, "the end of the tag")?;
                    kind
                }
            };
            statements.push(Statement { line, kind });
        }
    }

    /// The rest of an opening tag, a body, and the beginning of the tag after it, whose name is returned.
    fn body(&mut self, ends: &[&str]) -> Result<(Block, Arc<str>)> {
        self.expect(&Token::BlockEnd, "the end of the tag")?;
        let block = self.block(ends)?;
        self.next();
        Ok((block, self.expect_name()?))
    }

    fn statement(&mut self) -> Result<StatementKind> {
        let tag = self.expect_name()?;
        match &*tag {
            "if" => self.if_(),
            "for" => self.for_(),
            "set" => self.set(),
            "with" => self.with(),
            "macro" => self.macro_(),
            "call" => self.call(),
            "filter" => {
                let filters = self.filters()?;
                Ok(StatementKind::Filter { filters, body: self.body(&["endfilter"])?.0 })
            }
            "block" => {
                self.expect_name()?;
                while self.skip_name("scoped") || self.skip_name("required") {}
                let body = self.body(&["endblock"])?.0;
                if matches!(self.peek(), Token::Name(_)) {
                    self.next();
                }
                Ok(StatementKind::Scope(body))
            }
            "generation" => Ok(StatementKind::Scope(self.body(&["endgeneration"])?.0)),
            "print" => Ok(StatementKind::Print(self.tuple(true)?)),
            "break" | "continue" if self.loops == 0 => self.error(format!("`{tag}` outside of a loop")),
            "break" => Ok(StatementKind::Break),
            "continue" => Ok(StatementKind::Continue),
            "include" | "import" | "from" | "extends" => {
                self.error(format!("`{tag}`: a chat template cannot read other templates"))
            }
            _ => self.error(format!("unknown tag `{}`", super::value::shortened(&tag))),
        }
    }

    fn if_(&mut self) -> Result<StatementKind> {
        let mut branches = Vec::new();
        let mut otherwise = Block(Vec::new());
        loop {
            let condition = self.tuple(false)?;
            let (block, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((condition, block));
            match &*end {
                "elif" => continue,
                "else" => otherwise = self.body(&["endif"])?.0,
                _ => {}
            }
            return Ok(StatementKind::If { branches, otherwise });
        }
    }

    fn for_(&mut self) -> Result<StatementKind> {
        let target = self.target(&["in"], false)?;
        if !self.skip_name("in") {
            return self.error(format!("expected `in`, found {}", self.found()));
        }
        let iterable = self.tuple_until(false, &["recursive"])?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.loops += 1;
        let body = self.body(&["endfor", "else"]);
        self.loops -= 1;
        let (body, end) = body?;
        let otherwise = if &*end == "else" { self.body(&["endfor"])?.0 } else { Block(Vec::new()) };
        Ok(StatementKind::For(Arc::new(For { target, iterable, condition, recursive, body, otherwise })))
    }

    fn set(&mut self) -> Result<StatementKind> {
        let target = self.target(&[], true)?;
        if self.skip_operator("=") {
            return Ok(StatementKind::Set { target, value: self.tuple(true)? });
        }
        let filters = if self.is_operator("|") { self.piped_filters()? } else { Vec::new() };
        Ok(StatementKind::SetBlock { target, filters, body: self.body(&["endset"])?.0 })
    }

    fn with(&mut self) -> Result<StatementKind> {
        let mut targets = Vec::new();
        while !matches!(self.peek(), Token::BlockEnd) {
            if !targets.is_empty() {
                self.expect_operator(",")?;
            }
            let target = self.single_target(false)?;
            self.expect_operator("=")?;
            targets.push((target, self.expression()?));
        }
        Ok(StatementKind::With { targets, body: self.body(&["endwith"])?.0 })
    }

    fn macro_(&mut self) -> Result<StatementKind> {
        let name = self.expect_name()?;
        let parameters = self.parameters()?;
        let body = self.isolated_body("endmacro")?;
        Ok(StatementKind::Macro(Arc::new(Macro { name, parameters, body })))
    }

    fn call(&mut self) -> Result<StatementKind> {
        let parameters = if self.is_operator("(") { self.parameters()? } else { Vec::new() };
        let call = self.expression()?;
        if !matches!(&call, Expr::Postfix(_, chain) if matches!(chain.last(), Some(Postfix::Call(_)))) {
            return self.error("`call` needs the call of a macro");
        }
        let body = self.isolated_body("endcall")?;
        Ok(StatementKind::Call { call, caller: Arc::new(Macro { name: "caller".into(), parameters, body }) })
    }

    /// The body of a macro, which `break` cannot leave.
    fn isolated_body(&mut self, end: &str) -> Result<Block> {
        let loops = std::mem::take(&mut self.loops);
        let body = self.body(&[end]);
        self.loops = loops;
        Ok(body?.0)
    }

    fn parameters(&mut self) -> Result<Vec<(Arc<str>, Option<Expr>)>> {
        self.expect_operator("(")?;
        let mut parameters: Vec<(Arc<str>, Option<Expr>)> = Vec::new();
        while !self.skip_operator(")") {
            if !parameters.is_empty() {
                self.expect_operator(",")?;
            }
            let name = self.expect_name()?;
            let default = if self.skip_operator("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return self.error("a parameter without a default follows one with a default");
            }
            parameters.push((name, default));
        }
        Ok(parameters)
    }

    /// `upper | trim`.
    fn filters(&mut self) -> Result<Vec<Postfix>> {
        let first = self.filter()?;
        let mut filters = vec![first];
        while self.skip_operator("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn piped_filters(&mut self) -> Result<Vec<Postfix>> {
        self.expect_operator("|")?;
        self.filters()
    }

    /// `a`, `a, b`, with `attributes` also `a.b`.
    fn target(&mut self, ends: &[&str], attributes: bool) -> Result<Target> {
        let first = self.single_target(attributes)?;
        if !self.is_operator(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip_operator(",") {
            if ends.iter().any(|end| self.is_name(end)) || self.is_operator("=") || self.is_operator(")") {
                break;
            }
            targets.push(self.single_target(attributes)?);
        }
        Ok(Target::Tuple(targets))
    }

    fn single_target(&mut self, attributes: bool) -> Result<Target> {
        if self.skip_operator("(") {
            let target = self.nested(|parser| parser.target(&[], attributes))?;
            self.expect_operator(")")?;
            return Ok(target);
        }
        let name = self.expect_name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return self.error(format!("cannot assign to `{name}`"));
        }
        if attributes && self.skip_operator(".") {
            return Ok(Target::Attribute(name, self.expect_name()?));
        }
        Ok(Target::Name(name))
    }

    pub(super) fn filter(&mut self) -> Result<Postfix> {
        let name = self.dotted_name()?;
        let arguments = if self.is_operator("(") { self.call_arguments()? } else { CallArguments::default() };
        Ok(Postfix::Filter(name, arguments))
    }

    pub(super) fn dotted_name(&mut self) -> Result<Arc<str>> {
        let mut name = self.expect_name()?.to_string();
        while self.skip_operator(".") {
            name.push('.');
            name.push_str(&self.expect_name()?);
        }
        Ok(name.into())
    }
}

/// A token for a message.
pub(super) fn describe(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("`{}`", super::value::shortened(name)),
        Token::Operator(operator) => format!("`{operator}`"),
        Token::Str(_) => "a string".to_owned(),
        Token::Int(_) | Token::Float(_) => "a number".to_owned(),
        Token::Text(_) => "text".to_owned(),
        Token::PrintBegin => "`{{`".to_owned(),
        Token::PrintEnd => "`}}`".to_owned(),
        Token::BlockBegin => "`{%`".to_owned(),
        Token::BlockEnd => "`%}`".to_owned(),
        Token::End => "the end of the template".to_owned(),
    }
}
