//! Datasets whose split `train` is scored by some task of lm-evaluation-harness 0.4.13: their training rows are held
//! out, whichever of their tasks are loaded. Taken from the resolved configs of that release: every dataset whose
//! `test_split`, or `validation_split` where there is no test split, is `train`, for all of its configs.

/// By `dataset_path` as the harness writes it, sorted.
const DATASETS: &[&str] = &[
    "Albertmade/into-the-unknown",
    "Albertmade/memo-trap",
    "Albertmade/modus-tollens",
    "Albertmade/pattern-matching-suppression",
    "Albertmade/repetitive-algebra",
    "Albertmade/sig-figs",
    "Anthropic/discrim-eval",
    "BI55/MedText",
    "EleutherAI/pile",
    "EunsuKim/CLIcK",
    "Idavidrein/gpqa",
    "Junrui1202/zhoblimp",
    "LabHC/histoires_morales",
    "LabHC/moral_stories",
    "Maxwell-Jia/AIME_2024",
    "NeelNanda/pile-10k",
    "allenai/real-toxicity-prompts",
    "bigbio/meddialog",
    "bigbio/meqsum",
    "community-datasets/qa4mre",
    "devlocalhost/prescription-full",
    "gneubig/aime-1983-2024",
    "google/IFEval",
    "har1/MTS_Dialogue-Clinical_Note",
    "hcfa/ncb",
    "inverse-scaling/NeQA",
    "inverse-scaling/hindsight-neglect-10shot",
    "inverse-scaling/quote-repetition",
    "inverse-scaling/redefine-math",
    "juletxara/turblimp",
    "jumelet/multiblimp",
    "keramjan/CELEP1",
    "keramjan/CELEP2",
    "keramjan/lambada_uyghur",
    "keramjan/uleval",
    "keramjan/ulqa",
    "keramjan/ulut",
    "ltg/norcommonsenseqa",
    "manu/french-trivia",
    "mideind/icelandic-winogrande",
    "nyu-mll/blimp",
    "proxectonos/belebele_gl",
    "recursal/longbench-v2",
    "wis-k/instruction-following-eval",
];

/// Whether some task of the harness scores on the split `train` of this dataset.
pub(crate) fn is_scored(dataset_path: &str) -> bool {
    DATASETS.iter().any(|known| known.eq_ignore_ascii_case(dataset_path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_whole() {
        assert!(is_scored("idavidrein/gpqa"));
        assert!(is_scored("nyu-mll/blimp"));
        assert!(!is_scored("openai/gsm8k"));
        assert!(!is_scored("gpqa-like/other"));
        assert!(DATASETS.is_sorted());
    }
}
