//! One text against the reference set. In: a text and its answer. Out: the held-out question that it repeats, by which
//! rules, and where in the text.
//!
//! Runs of tokens that a text shares with a question are found from n-grams of [`SEED`] tokens; every rule is a sentence
//! about these runs. Lengths are counted in words; a character of a script without spaces counts half a word.

use std::ops::Range;

use super::reference::{Question, Reference, SEED, answer_hash};
use crate::curate::tokens::{Tokens, WORD, hash_of};

/// Why a text counts as a copy, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The text is the question.
    Exact,
    /// The whole question stands in the text.
    Question,
    /// So much of the question is covered by common n-grams (Tülu 3, Lambert et al. 2024: 8-grams, more than half).
    Coverage,
    /// One long n-gram is common (GPT-3, Brown et al. 2020, and the harness's Janitor: 13-grams).
    Ngram,
    /// The question stands in the text with some words changed.
    Near,
}

impl Rule {
    pub const ALL: [Rule; 5] = [Rule::Exact, Rule::Question, Rule::Coverage, Rule::Ngram, Rule::Near];

    pub fn as_str(self) -> &'static str {
        match self {
            Rule::Exact => "exact",
            Rule::Question => "question",
            Rule::Coverage => "coverage",
            Rule::Ngram => "ngram",
            Rule::Near => "near",
        }
    }
}

/// The numbers of the rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Words of the n-grams of `coverage`.
    pub ngram: u32,
    /// The share of the question that they must cover.
    pub coverage: f64,
    /// Words of the one n-gram of `ngram`.
    pub long_ngram: u32,
    /// The share of the question's information that must stand in the text in its order.
    pub near: f64,
}

/// Questions with fewer words are found as a whole only.
const SHORT: u32 = 13 * WORD;
/// With fewer still, and where the question is generic, the answer must be the same too: such questions are asked by chance.
const VERY_SHORT: u32 = 8 * WORD;
/// Words in a row that must be common, as a share of the question's information, before it is compared word by word.
const WORTH_COMPARING: f32 = 0.2;
/// A question or a part of a text with more tokens is not compared word by word.
const MAX_COMPARED: usize = 4000;

/// What a text repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Contamination {
    pub question: u32,
    /// The surest rule.
    pub rule: Rule,
    /// How much of the question stands in the text, from 0 to 1.
    pub score: f64,
    /// Where it stands, in bytes of the text.
    pub span: Range<usize>,
    /// Every decisive rule by which the text repeats some question.
    pub rules: Vec<Rule>,
}

/// Common tokens in a row: from `start` in the text, from `place` in the question.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: usize,
    place: usize,
    tokens: usize,
}

/// Compares texts, with memory that is used again.
#[derive(Debug)]
pub struct Matcher<'a> {
    reference: &'a Reference,
    limits: Limits,
    tokens: Tokens,
    answer: Tokens,
    /// Question, place in the text minus place in the question, place in the text.
    hits: Vec<(u32, i64, u32)>,
    runs: Vec<Run>,
    covered: Vec<bool>,
    best: Vec<f32>,
}

impl<'a> Matcher<'a> {
    pub fn new(reference: &'a Reference, limits: Limits) -> Self {
        Self {
            reference,
            limits,
            tokens: Tokens::default(),
            answer: Tokens::default(),
            hits: Vec::new(),
            runs: Vec::new(),
            covered: Vec::new(),
            best: Vec::new(),
        }
    }

    /// The question that the text repeats by the surest of the `decisive` rules, then by score, then the first.
    pub fn find(&mut self, text: &str, answer: Option<&str>, decisive: &[Rule]) -> Option<Contamination> {
        self.tokens.read(text);
        if self.tokens.len() == 0 {
            return None;
        }
        let reference = self.reference;
        self.hits.clear();
        for (start, ngram) in self.tokens.hashes.windows(SEED).enumerate() {
            for &(question, place) in reference.places(hash_of(ngram)) {
                self.hits.push((question, start as i64 - i64::from(place), start as u32));
            }
        }
        let exact = reference.whole.get(&hash_of(&self.tokens.hashes)).copied();
        let exact = exact.filter(|_| decisive.contains(&Rule::Exact));
        if self.hits.is_empty() && exact.is_none() {
            return None;
        }
        let answer = answer.and_then(|answer| answer_hash(answer, &mut self.answer));
        // What anybody may ask is a copy only if nothing speaks against it.
        let exact = exact.filter(|question| {
            let question = &reference.questions[*question as usize];
            !question.generic || answer.is_none_or(|answer| question.answers.contains(&answer))
        });
        let mut found: Option<Contamination> = None;
        let mut rules = Vec::new();
        if let Some(question) = exact {
            rules.push(Rule::Exact);
            let span = self.span(0..self.tokens.len());
            found = Some(Contamination { question, rule: Rule::Exact, score: 1.0, span, rules: Vec::new() });
        }
        let mut hits = std::mem::take(&mut self.hits);
        hits.sort_unstable();
        for of_one in hits.chunk_by(|a, b| a.0 == b.0) {
            let question = of_one[0].0;
            self.join(of_one);
            for (rule, score, tokens) in self.judge(&reference.questions[question as usize], answer) {
                if !decisive.contains(&rule) {
                    continue;
                }
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
                // Of two questions one of which stands in the other the longer one is meant.
                let span = self.span(tokens);
                let surer = |found: &Contamination| {
                    rule < found.rule || (rule == found.rule && (score, span.len()) > (found.score, found.span.len()))
                };
                if found.as_ref().is_none_or(surer) {
                    found = Some(Contamination { question, rule, score, span, rules: Vec::new() });
                }
            }
        }
        self.hits = hits;
        rules.sort_unstable();
        found.map(|found| Contamination { rules, ..found })
    }

    fn span(&self, tokens: Range<usize>) -> Range<usize> {
        let (first, last) = (self.tokens.places[tokens.start], self.tokens.places[tokens.end - 1]);
        first.0 as usize..last.1 as usize
    }

    /// Hits in a row are one run. `hits` are of one question and in order.
    fn join(&mut self, hits: &[(u32, i64, u32)]) {
        self.runs.clear();
        let mut last: Option<(i64, usize)> = None;
        for &(_, shift, start) in hits {
            let start = start as usize;
            match self.runs.last_mut() {
                Some(run) if last == Some((shift, start.wrapping_sub(1))) => run.tokens += 1,
                _ => self.runs.push(Run { start, place: (start as i64 - shift) as usize, tokens: SEED }),
            }
            last = Some((shift, start));
        }
    }

    /// The rules by which the text repeats a question, from its runs: rule, score and the tokens of the text.
    fn judge(&mut self, question: &Question, answer: Option<u64>) -> Vec<(Rule, f64, Range<usize>)> {
        let mut judged = Vec::new();
        let length = question.tokens.len();
        let weight = |from: usize, to: usize| question.weight_before[to] - question.weight_before[from];
        let total = weight(0, length);
        let same_answer = answer.is_some_and(|answer| question.answers.contains(&answer));

        // The whole question in a row. Boilerplate in it has no hits, so its tokens are compared.
        let whole = self.runs.iter().find_map(|run| {
            let start = run.start.checked_sub(run.place)?;
            let tokens = self.tokens.hashes.get(start..start + length)?;
            (tokens == question.tokens).then_some(start..start + length)
        });
        if let Some(tokens) = whole
            && (total >= SHORT || (total >= VERY_SHORT && !question.generic) || same_answer)
        {
            judged.push((Rule::Question, 1.0, tokens));
        }
        if total >= SHORT {
            let (score, tokens) = self.covered(question, self.limits.ngram * WORD);
            if score >= self.limits.coverage {
                judged.push((Rule::Coverage, score, tokens));
            }
            let longest = self.runs.iter().copied().max_by_key(|run| weight(run.place, run.place + run.tokens));
            if let Some(run) = longest
                && weight(run.place, run.place + run.tokens) >= self.limits.long_ngram * WORD
            {
                let (score, _) = self.covered(question, self.limits.long_ngram * WORD);
                judged.push((Rule::Ngram, score, run.start..run.start + run.tokens));
            }
        }
        if judged.is_empty()
            && (total >= SHORT || same_answer)
            && let Some((score, tokens)) = self.near(question)
        {
            judged.push((Rule::Near, score, tokens));
        }
        judged
    }

    /// The share of a question's weight, without its boilerplate, in runs of at least so much weight; and the tokens of the
    /// text from the first such run to the last.
    fn covered(&mut self, question: &Question, least: u32) -> (f64, Range<usize>) {
        self.covered.clear();
        self.covered.resize(question.tokens.len(), false);
        let mut tokens = Range { start: usize::MAX, end: 0 };
        for run in &self.runs {
            let end = run.place + run.tokens;
            if question.weight_before[end] - question.weight_before[run.place] >= least {
                self.covered[run.place..end].fill(true);
                tokens = tokens.start.min(run.start)..tokens.end.max(run.start + run.tokens);
            }
        }
        let (mut covered, mut all) = (0, 0);
        for place in 0..question.tokens.len() {
            if !question.boilerplate[place] {
                let weight = question.weight_before[place + 1] - question.weight_before[place];
                all += weight;
                covered += if self.covered[place] { weight } else { 0 };
            }
        }
        if all == 0 || tokens.start >= tokens.end {
            return (0.0, 0..1);
        }
        (f64::from(covered) / f64::from(all), tokens)
    }

    /// The share of a question's information that stands in the text in its order, where it is enough; and the tokens of
    /// the text around it.
    fn near(&mut self, question: &Question) -> Option<(f64, Range<usize>)> {
        let length = question.tokens.len();
        let informs = |place: usize| if question.boilerplate[place] { 0.0 } else { question.information[place] };
        let all: f32 = (0..length).map(informs).sum();
        self.covered.clear();
        self.covered.resize(length, false);
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for run in &self.runs {
            self.covered[run.place..run.place + run.tokens].fill(true);
            first = first.min(run.start as i64 - run.place as i64);
            last = last.max(run.start as i64 - run.place as i64 + length as i64);
        }
        let in_runs: f32 = (0..length).filter(|place| self.covered[*place]).map(informs).sum();
        // A window around the places that the runs give the question.
        let spare = length as i64 / 8 + 2;
        let window = (first - spare).max(0) as usize..((last + spare).max(0) as usize).min(self.tokens.len());
        if all <= 0.0 || in_runs < WORTH_COMPARING * all || length.max(window.len()) > MAX_COMPARED {
            return None;
        }
        let common = self.common_in_order(question, window.clone());
        let score = f64::from(common / all).min(1.0);
        let runs = self.runs.iter();
        let tokens = runs.fold(Range { start: usize::MAX, end: 0 }, |all, run| {
            all.start.min(run.start)..all.end.max(run.start + run.tokens)
        });
        (score >= self.limits.near).then_some((score, tokens))
    }

    /// The information of the longest common subsequence of a question and a part of the text, boilerplate aside.
    fn common_in_order(&mut self, question: &Question, window: Range<usize>) -> f32 {
        self.best.clear();
        self.best.resize(window.len() + 1, 0.0);
        for (place, token) in question.tokens.iter().enumerate() {
            let informs = if question.boilerplate[place] { 0.0 } else { question.information[place] };
            let mut diagonal = 0.0f32;
            for (at, other) in self.tokens.hashes[window.clone()].iter().enumerate() {
                let above = self.best[at + 1];
                let here = if token == other { diagonal + informs } else { 0.0 };
                self.best[at + 1] = here.max(above).max(self.best[at]);
                diagonal = above;
            }
        }
        self.best[window.len()]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reference::ReferenceRow;
    use super::*;

    const LIMITS: Limits = Limits { ngram: 8, coverage: 0.5, long_ngram: 13, near: 0.7 };

    const LONG: &str = "Mara has three red baskets with twelve plums each and gives seven plums to her neighbour before she \
                        sells the rest for two coins apiece; how many coins does she earn?";
    const MIDDLE: &str = "Which organ of a frog lives longest outside of the water?";
    const BRIEF: &str = "Who painted the blue ceiling?";

    fn reference(questions: &[(&str, &str)]) -> Reference {
        let row = |(nth, (question, answer)): (usize, &(&str, &str))| ReferenceRow {
            table: "exam".into(),
            row: nth.to_string(),
            question: (*question).into(),
            answer: Some((*answer).into()),
        };
        Reference::new(questions.iter().enumerate().map(row).collect())
    }

    fn found(reference: &Reference, text: &str, answer: Option<&str>) -> Option<(Rule, String, String)> {
        let found = Matcher::new(reference, LIMITS).find(text, answer, &Rule::ALL)?;
        let row = reference.questions[found.question as usize].row.clone();
        Some((found.rule, row, text[found.span].to_owned()))
    }

    fn exam() -> Reference {
        reference(&[(LONG, "58"), (MIDDLE, "skin"), (BRIEF, "Giotto")])
    }

    #[test]
    fn a_question_is_found_whatever_its_form() {
        let exam = exam();
        assert_eq!(found(&exam, LONG, None).unwrap().0, Rule::Exact);
        let shouted = MIDDLE.to_uppercase().replace(' ', "\n ").replace('?', " ?!");
        assert_eq!(
            found(&exam, &shouted, None).unwrap(),
            (Rule::Exact, "1".into(), shouted.trim_end_matches(" ?!").into())
        );
        assert_eq!(found(&exam, BRIEF, None).unwrap().0, Rule::Exact);
    }

    #[test]
    fn a_question_in_a_longer_text_is_found_with_its_place() {
        let exam = exam();
        for question in [LONG, MIDDLE] {
            let text = format!("Here is something that a pupil asked today. {question} Explain it in your own words.");
            let (rule, _, span) = found(&exam, &text, None).unwrap();
            assert_eq!((rule, span.as_str()), (Rule::Question, question.trim_end_matches('?')));
        }
    }

    #[test]
    fn a_very_short_question_needs_its_answer() {
        let exam = exam();
        let text = format!("A riddle for you. {BRIEF} Think well.");
        assert_eq!(found(&exam, &text, None), None);
        assert_eq!(found(&exam, &text, Some("Rubens")), None);
        assert_eq!(found(&exam, &text, Some("giotto.")).unwrap().0, Rule::Question);
    }

    #[test]
    fn a_generic_question_needs_its_answer_and_a_longer_one_goes_before_it() {
        let generic = "Which of the following is a correct statement about";
        let questions: Vec<String> =
            ["", " iron", " glass", " wool", " salt"].iter().map(|end| format!("{generic}{end}")).collect();
        let pairs: Vec<(&str, &str)> = questions.iter().map(|question| (question.as_str(), "it melts")).collect();
        let exam = reference(&pairs);
        let other = format!("{generic} the moon?");
        assert_eq!(found(&exam, &other, None), None);
        assert_eq!(found(&exam, &other, Some("It melts.")).unwrap().1, "0");
        assert_eq!(found(&exam, &format!("So: {generic} wool?"), None).unwrap().1, "3");
        assert_eq!(found(&exam, generic, None).unwrap().0, Rule::Exact);
        assert_eq!(found(&exam, generic, Some("it burns")), None);
    }

    #[test]
    fn changed_words_and_numbers_and_missing_ends_are_found() {
        let exam = exam();
        let words = LONG.replace("baskets", "boxes").replace("neighbour", "cousin").replace("sells", "trades");
        assert!(found(&exam, &words, None).is_some());
        let numbers = LONG.replace("three", "four").replace("twelve", "ten").replace("seven", "nine");
        assert!(found(&exam, &numbers, None).is_some());
        let cut = &LONG[..LONG.len() * 6 / 10];
        assert_eq!(found(&exam, cut, None).unwrap().0, Rule::Coverage);
    }

    #[test]
    fn what_only_resembles_a_question_is_not_found() {
        let exam = exam();
        for text in [
            "Which organ of a bird lives longest outside of the body?",
            "Mara has a garden and sells plums; how many coins does she earn in a week of good weather?",
            "",
            "?",
        ] {
            assert_eq!(found(&exam, text, None), None, "{text}");
        }
    }

    #[test]
    fn scripts_without_spaces_are_compared_by_characters() {
        let exam =
            reference(&[("太郎は市場でりんごを十二個買い、そのうち五個を友達にあげました。残りは何個ですか", "7")]);
        let text = "次の問題を解いてください。太郎は市場でりんごを十二個買い、そのうち五個を友達にあげました。残りは何個ですか。";
        assert_eq!(found(&exam, text, None).unwrap().0, Rule::Question);
        assert_eq!(found(&exam, "花子は市場でみかんを三個売りました。", None), None);
    }

    #[test]
    fn boilerplate_weighs_nothing() {
        let head = "For which of these two scenarios does the main character do something that is clearly wrong by today's \
                    ordinary standards of conduct?";
        let scenes = [
            "garden", "river", "market", "school", "harbour", "tower", "meadow", "bridge", "cellar", "library",
            "station", "orchard",
        ];
        let questions: Vec<String> = scenes
            .iter()
            .map(|scene| {
                format!("{head} I left the {scene} gate open and the {scene} goats ran away over the {scene} hill.")
            })
            .collect();
        let pairs: Vec<(&str, &str)> = questions.iter().map(|question| (question.as_str(), "first")).collect();
        let exam = reference(&pairs);
        let own =
            format!("{head} She carried an old lamp down to the beach and waved it at a passing ship until dawn.");
        assert_eq!(found(&exam, &own, None), None);
        assert_eq!(found(&exam, &questions[3], None).unwrap().0, Rule::Exact);
        let (_, row, _) = found(&exam, &format!("Note: {}", questions[3]), None).unwrap();
        assert_eq!(row, "3");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_spans_are_of_the_text(
            questions in prop::collection::vec("([a-c]|[a-c]|東|é| |\\?){0,40}", 0..6),
            text in "([a-c]|[a-c]|東|é| |\\?){0,60}",
        ) {
            let pairs: Vec<(&str, &str)> = questions.iter().map(|question| (question.as_str(), "a")).collect();
            let reference = reference(&pairs);
            if let Some(found) = Matcher::new(&reference, LIMITS).find(&text, Some("a"), &Rule::ALL) {
                prop_assert!(text.get(found.span.clone()).is_some_and(|span| !span.is_empty()));
                prop_assert!((0.0..=1.0).contains(&found.score));
                prop_assert!(found.rules.contains(&found.rule));
            }
        }
    }
}
