"""A language model and a catalogue in; item scores and per-target losses out.

One line: ``recommend(load_recommender("runs/first/eisam/seed-0/model"), [[12, 7, 40]], k=10)``.
"""

from tailwise.recommenders._build import (
    BackboneConfig,
    SASRecConfig,
    build_item_token,
    build_sasrec,
    build_title,
    load_recommender,
    load_trainable_state,
    save_recommender,
)
from tailwise.recommenders._export import (
    BaseModel,
    describe_base_model,
    export_recommender,
    scoring_tensors,
    title_tensors,
)
from tailwise.recommenders._grounding import GROUNDINGS, GroundedTitles, TitleGrounding
from tailwise.recommenders._incremental import IncrementalReader, ReadItems
from tailwise.recommenders._item_knn import ItemKNN
from tailwise.recommenders._item_token import ItemTokenConfig, ItemTokenRecommender
from tailwise.recommenders._language_model import choose_dtype, resolve_language_model
from tailwise.recommenders._most_popular import MostPopular
from tailwise.recommenders._negatives import Negatives, NegativeSampler
from tailwise.recommenders._protocol import (
    BatchSource,
    History,
    Recommender,
    SpanRecommender,
    TrainableRecommender,
    TrainingBatch,
)
from tailwise.recommenders._recommend import recommend
from tailwise.recommenders._reranked import PopularityPenalised
from tailwise.recommenders._sequences import SequenceBatch, SequenceBatches
from tailwise.recommenders._text_model import TextModel
from tailwise.recommenders._title import RescoredTitles, TitleConfig, TitleRecommender
from tailwise.recommenders._title_decoding import TitleDecoder, TitleLists
from tailwise.recommenders._title_encodings import encode_titles
from tailwise.recommenders._title_prompts import TitleBatch, TitleBatches, TitlePrompts
from tailwise.recommenders._title_trie import AllowedItems, TitleTrie
from tailwise.recommenders._top_items import TieKeys, check_scores, select_best, top_items

__all__ = [
    "GROUNDINGS",
    "AllowedItems",
    "BackboneConfig",
    "BaseModel",
    "BatchSource",
    "GroundedTitles",
    "History",
    "IncrementalReader",
    "ItemKNN",
    "ItemTokenConfig",
    "ItemTokenRecommender",
    "MostPopular",
    "NegativeSampler",
    "Negatives",
    "PopularityPenalised",
    "ReadItems",
    "Recommender",
    "RescoredTitles",
    "SASRecConfig",
    "SequenceBatch",
    "SequenceBatches",
    "SpanRecommender",
    "TextModel",
    "TieKeys",
    "TitleBatch",
    "TitleBatches",
    "TitleConfig",
    "TitleDecoder",
    "TitleGrounding",
    "TitleLists",
    "TitlePrompts",
    "TitleRecommender",
    "TitleTrie",
    "TrainableRecommender",
    "TrainingBatch",
    "build_item_token",
    "build_sasrec",
    "build_title",
    "check_scores",
    "choose_dtype",
    "describe_base_model",
    "encode_titles",
    "export_recommender",
    "load_recommender",
    "load_trainable_state",
    "recommend",
    "resolve_language_model",
    "save_recommender",
    "scoring_tensors",
    "select_best",
    "title_tensors",
    "top_items",
]
