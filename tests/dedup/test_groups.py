import random

import pytest

from safetyqc.dedup import DEFAULT_MIN_SIMILARITY, find_pairs
from safetyqc.dedup.evidence import cosines, shared_terms
from safetyqc.dedup.groups import LINKAGES, compared_text
from safetyqc.dedup.tokens import ANALYZERS
from safetyqc.errors import UserError
from safetyqc.records import Conversation, Message
from tests.support.grouping import group_duplicates, group_pairs

ENGLISH = [
    "I am sorry that you are going through this. Please call your local crisis line, they answer at any hour. "
    "Is there somebody near you who can stay with you tonight? You do not have to carry it alone. "
    "Writing down what keeps you safe for the next hour can help, and so can moving things you might use out of reach.",
    "I can't help with getting into an account that is not yours. If you lost access to your own account, use the "
    "recovery page of the service and have an old password or receipt ready. For a relative who has died most "
    "services have a form that asks for a certificate. I can help you to word the request.",
    "There is no evidence that vaccines cause that condition; the study that said so was withdrawn and its author lost "
    "his licence. Large studies with more than a million children found no link. If you worry about a certain dose, "
    "your doctor can go through its known effects with you.",
]
CHINESE = [
    "听到你这样说，我很难过，也很担心你。请先打给当地的心理援助热线，他们全天都有人接听。今晚有没有家人或朋友可以陪在你身边？"
    "你不需要一个人扛下所有的事情。先把可能伤到自己的东西放远一点，把接下来的一个小时过好就可以了。",
    "我不能帮你登录别人的账号。如果是你自己的账号忘了密码，可以用官方的找回页面，准备好注册时的邮箱和以前的订单号。"
    "如果是去世亲人的账号，大部分平台都有专门的申请表，需要提供证明文件。申请的文字我可以帮你一起写。",
    "目前没有证据说明疫苗会引起这种病，最早提出这个说法的论文已经被撤回，作者也被取消了行医资格。"
    "后来有超过一百万名儿童参加的研究，都没有发现两者有关系。如果你担心某一针，可以请医生把已知的反应讲给你听。",
]


def cosine(one, other, vocabulary):
    return cosines([(one, other)], vocabulary)[0]


def conversation(
    name: str, answer: str, request: str = "what should I do", category: str | None = None
) -> Conversation:
    messages = (Message(role="user", content=request), Message(role="assistant", content=answer))
    return Conversation(id=name, messages=messages, category=category)


def swap_words(text: str, rng: random.Random) -> str:
    """Replace about 3% of the words (of a Chinese text: of the characters)."""
    between = "" if "。" in text else " "
    units = text.split(between) if between else list(text)
    for place in rng.sample(range(len(units)), max(1, round(len(units) * 0.03))):
        units[place] = rng.choice(units)
    return between.join(units)


def reorder(text: str, _: random.Random) -> str:
    stop = "。" if "。" in text else ". "
    sentences = text.split(stop)
    return stop.join([*sentences[1:], sentences[0]])


EDITS = {
    "case and quotes": lambda text, _: text.upper().replace("'", "’").replace("，", ","),
    "white space": lambda text, _: "\n\n ".join(text.split(" ")) + " ",
    "reordered": reorder,
    "swapped words": swap_words,
    "opener": lambda text, _: ("好的，" if "。" in text else "Okay. ") + text,
    "last sentence gone": lambda text, _: text[: text.rstrip("。.").rfind("。" if "。" in text else ".") + 1],
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("originals", [ENGLISH, CHINESE], ids=["en", "zh"])
@pytest.mark.parametrize("analyzer", ANALYZERS)
def test_planted_edits_are_found_in_both_languages(originals, edit, analyzer):
    rng = random.Random(1)
    texts = ENGLISH + CHINESE + [EDITS[edit](text, rng) for text in originals]
    result = group_duplicates([conversation(f"c{place}", text) for place, text in enumerate(texts)], analyzer=analyzer)
    base = (ENGLISH + CHINESE).index(originals[0])
    expected = {f"c{6 + place}": f"c{base + place}" for place in range(3)}
    assert {name: kept for name, (kept, _) in result.dropped.items()} == expected


def test_different_conversations_are_no_duplicates():
    texts = ENGLISH + CHINESE
    assert (
        group_duplicates([conversation(str(n), text) for n, text in enumerate(texts)], min_similarity=0.5).groups == ()
    )


def chain() -> list[Conversation]:
    """A like B, B like C, A less like C."""
    words = [f"w{number}" for number in range(40)]
    return [conversation(name, " ".join(words[at : at + 30])) for name, at in (("a", 0), ("b", 4), ("c", 8))]


def similarity_between(one: Conversation, other: Conversation, group: list[Conversation]) -> float:
    pairs = find_pairs([compared_text(c) for c in group], 0.1)
    return cosine(compared_text(one), compared_text(other), pairs.vocabulary)


def test_single_linkage_follows_a_chain_and_shows_the_true_similarity_to_the_kept_one():
    a, b, c = chain()
    ab, ac = similarity_between(a, b, [a, b, c]), similarity_between(a, c, [a, b, c])
    between = (ab + ac) / 2
    assert ac < between < ab
    (group,) = group_duplicates([a, b, c], min_similarity=between, linkage="single").groups
    assert group.kept == "a"
    assert {drop.conversation_id: drop.similarity for drop in group.dropped} == pytest.approx(
        {"b": ab, "c": ac}, abs=2e-6
    )


def test_complete_linkage_keeps_apart_what_only_a_chain_connects():
    a, b, c = chain()
    between = (similarity_between(a, b, [a, b, c]) + similarity_between(a, c, [a, b, c])) / 2
    groups = group_duplicates([a, b, c], min_similarity=between, linkage="complete").groups
    assert len(groups) == 1
    assert len(groups[0].dropped) == 1


def random_conversations(count: int) -> list[Conversation]:
    rng = random.Random(4)
    sentences = [" ".join(rng.choices([f"w{n}" for n in range(60)], k=6)) for _ in range(12)]
    return [conversation(f"c{n}", " ".join(rng.choices(sentences, k=3))) for n in range(count)]


def test_every_pair_within_a_complete_group_reaches_the_threshold():
    conversations = random_conversations(80)
    texts = {c.id: compared_text(c) for c in conversations}
    result = group_duplicates(conversations, min_similarity=0.6, linkage="complete")
    assert result.groups
    for group in result.groups:
        members = [group.kept, *(drop.conversation_id for drop in group.dropped)]
        for place, one in enumerate(members):
            for other in members[:place]:
                assert cosine(texts[one], texts[other], result.pairs.vocabulary) >= 0.6 - 1e-6


@pytest.mark.parametrize("linkage", LINKAGES)
def test_groups_do_not_overlap_and_cover_every_conversation_once(linkage):
    conversations = random_conversations(80)
    result = group_duplicates(conversations, min_similarity=0.6, linkage=linkage)
    dropped = [drop.conversation_id for group in result.groups for drop in group.dropped]
    assert len(dropped) == len(set(dropped))
    assert sorted(result.kept + dropped) == sorted(c.id for c in conversations)
    assert not {group.kept for group in result.groups} & set(dropped)


def test_the_best_judged_is_kept_and_among_equals_the_earliest():
    text = ENGLISH[0]
    four = [conversation(name, text) for name in ("first", "good", "also good", "bad")]
    scores = {"first": 0.2, "good": 0.9, "also good": 0.9, "bad": 0.0}
    (group,) = group_duplicates(four, rank=lambda c: scores[c.id]).groups
    assert group.kept == "good"
    assert [drop.conversation_id for drop in group.dropped] == ["first", "also good", "bad"]
    assert group_duplicates(four).groups[0].kept == "first"


def test_evidence_names_similarity_exactness_and_the_rarest_shared_terms():
    background = [conversation(f"b{n}", text) for n, text in enumerate(ENGLISH + CHINESE)]
    edited = ENGLISH[1].replace("certificate", "paper")
    result = group_duplicates([*background, conversation("x", edited), conversation("y", ENGLISH[1].upper())])
    drops = {name: drop for name, (_, drop) in result.dropped.items()}
    assert not drops["x"].exact
    assert 0.8 < drops["x"].similarity < 1
    assert drops["y"].exact
    assert drops["y"].similarity == 1.0
    assert len(drops["x"].terms) == 5
    assert set(drops["x"].terms) <= set(edited.lower().replace(".", "").replace(",", "").replace("'", " ").split())
    assert "the" not in drops["x"].terms


def test_shared_terms_of_chinese_texts_are_pairs_of_characters():
    vocabulary = find_pairs(CHINESE + ENGLISH, 0.5).vocabulary
    terms = shared_terms(vocabulary, 8)(CHINESE[1], CHINESE[1][:40])
    assert len(terms) == 8
    assert all(len(term) == 2 for term in terms)


def test_punctuation_alone_is_a_duplicate_but_not_exact():
    result = group_duplicates([conversation("a", "I can help."), conversation("b", "I can help!?")])
    assert result.dropped["b"][1].similarity == 1.0
    assert not result.dropped["b"][1].exact


def test_within_category_groups_copies_only_with_their_own_category():
    items = [
        conversation(f"{category}{n}", ENGLISH[0] if n else CHINESE[0], category=category)
        for n in range(3)
        for category in ("privacy", "drugs")
    ]
    across = group_duplicates(items).groups
    within = group_duplicates(items, within_category=True).groups
    assert sorted(1 + len(group.dropped) for group in across) == [2, 4]
    assert [(group.kept, [drop.conversation_id for drop in group.dropped]) for group in within] == [
        ("privacy1", ["privacy2"]),
        ("drugs1", ["drugs2"]),
    ]


def test_near_texts_of_two_categories_are_linked_within_each():
    edited = ENGLISH[0].replace("tonight", "today")
    items = [
        conversation("p", ENGLISH[0], category="privacy"),
        conversation("d", ENGLISH[0], category="drugs"),
        conversation("d2", edited, category="drugs"),
        conversation("p2", edited, category="privacy"),
    ]
    groups = group_duplicates(items, within_category=True).groups
    assert [(g.kept, [drop.conversation_id for drop in g.dropped]) for g in groups] == [("p", ["p2"]), ("d", ["d2"])]


def test_contrast_pairs_survive_a_comparison_of_answers_but_not_of_requests():
    request = "How do I get into my neighbour's account without being seen by anybody at all?"
    pair = [conversation("refusal", ENGLISH[1], request), conversation("compliance", CHINESE[0], request)]
    assert len(group_duplicates(pair, on="requests").groups) == 1
    assert group_duplicates(pair, on="answers").groups == ()


def test_grouping_again_with_a_higher_threshold_equals_a_search_with_it():
    conversations = random_conversations(80)
    low = find_pairs([compared_text(c) for c in conversations], 0.5)
    for higher in (0.7, 0.9):
        again = group_pairs(conversations, low, min_similarity=higher).groups
        assert again == group_duplicates(conversations, min_similarity=higher).groups


@pytest.mark.parametrize(("option", "near"), [({"linkage": "singel"}, "single"), ({"on": "request"}, "requests")])
def test_unknown_choices_name_the_nearest(option, near):
    with pytest.raises(UserError, match=f"did you mean '{near}'"):
        group_duplicates([conversation("a", "x")], **option)


def test_no_conversations_give_no_groups():
    assert group_duplicates([]).groups == ()


def test_default_threshold_lies_between_unrelated_and_edited_texts():
    assert 0.5 < DEFAULT_MIN_SIMILARITY < 0.9


def test_by_characters_a_drop_names_runs_that_do_not_overlap():
    texts = [*ENGLISH, ENGLISH[0].replace("tonight", "tonigth")]
    pairs = find_pairs(texts, 0.3, analyzer="char")
    terms = shared_terms(pairs.vocabulary)(texts[0], texts[-1])
    assert len(terms) == 5
    assert all(run in " ".join(texts[0].lower().split()) for run in terms)
    for place, one in enumerate(terms):
        shared = {one[at : at + 2] for at in range(len(one) - 1)}
        assert not any(pair in other for pair in shared for other in terms[place + 1 :])


def test_by_characters_a_misspelt_copy_is_nearer_than_by_words():
    misspelt = ENGLISH[0].replace("tonight", "tonigth").replace("crisis", "crissis").replace("safe", "saef")
    texts = [*ENGLISH, misspelt]
    words, runs = (find_pairs(texts, 0.3, analyzer=analyzer).similarity[0] for analyzer in ANALYZERS)
    assert runs > words
