"""Nodes: what of them goes into an embedding, what identifies them, whose nodes work."""

import asyncio
import base64
import copy
import datetime as dt
import json
import pathlib
import subprocess
import sys
import uuid
from io import BytesIO

import numpy as np
import pytest
from embed_core import MockEmbedding, MockMultiModalEmbedding
from embed_core.errors import AuthenticationError, InvalidInputError
from embed_core.schema import BaseNode, Document, ImageNode, MetadataMode, TextNode, image_of
from hypothesis import given
from hypothesis import strategies as st


def png(shade):
    """Return a small picture as the bytes of a PNG file."""
    image = pytest.importorskip("PIL.Image")
    buffer = BytesIO()
    image.new("L", (4, 4), shade).save(buffer, format="PNG")
    return buffer.getvalue()


class TestContent:
    node = TextNode(
        text="The wing stalls.",
        metadata={"title": "On wings", "page": 3, "file": "a.txt"},
        excluded_embed_metadata_keys=["file"],
        excluded_llm_metadata_keys=["page", "absent"],
    )

    def test_an_embedding_gets_metadata_lines_then_text_minus_excluded_keys(self):
        assert self.node.get_content(metadata_mode=MetadataMode.EMBED) == "title: On wings\npage: 3\n\nThe wing stalls."

    def test_a_language_model_gets_its_own_selection(self):
        assert self.node.get_content(MetadataMode.LLM) == "title: On wings\nfile: a.txt\n\nThe wing stalls."

    def test_all_is_all_and_none_is_the_text_alone(self):
        assert self.node.get_content("all") == "title: On wings\npage: 3\nfile: a.txt\n\nThe wing stalls."
        assert self.node.get_content() == self.node.get_content("none") == "The wing stalls."
        assert self.node.get_metadata_str() == "title: On wings\npage: 3\nfile: a.txt"

    def test_templates_and_separator_are_used(self):
        node = TextNode(
            text="text",
            metadata={"a": 1, "b": 2},
            metadata_template="<{key}={value}>",
            metadata_separator="; ",
            text_template="{content} -- {metadata_str}",
        )
        assert node.get_content(MetadataMode.EMBED) == "text -- <a=1>; <b=2>"

    def test_braces_in_text_and_metadata_are_just_braces(self):
        node = TextNode(text="{key} {0} {{", metadata={"{x}": "{y}"})
        assert node.get_content(MetadataMode.EMBED) == "{x}: {y}\n\n{key} {0} {{"

    def test_without_metadata_the_text_keeps_its_white_space(self):
        assert TextNode(text="  text\n").get_content(MetadataMode.EMBED) == "  text\n"


class TestFields:
    def test_every_node_has_an_id_of_its_own(self):
        one, other = TextNode(text="a"), TextNode(text="a")
        assert one.id_ != other.id_
        assert str(uuid.UUID(one.node_id)) == one.id_
        assert Document(id_="x").doc_id == "x"

    def test_a_misspelt_field_is_an_error(self):
        with pytest.raises(ValueError, match="metdata"):
            TextNode(text="a", metdata={})

    def test_nodes_survive_json(self):
        node = ImageNode(id_="i", text="a wing", image=b"\x89PNG", metadata={"page": 3}, embedding=[0.5, 0.25])
        again = ImageNode.model_validate_json(node.model_dump_json())
        assert again == node
        assert copy.deepcopy(node) == node

    def test_long_fields_stay_out_of_the_repr(self):
        assert "0.5" not in repr(ImageNode(embedding=[0.5], image=b"1234"))

    def test_a_base_node_is_no_node(self):
        with pytest.raises(TypeError, match="abstract"):
            BaseNode()


class TestHash:
    def test_id_embedding_and_origin_do_not_count(self):
        one = TextNode(id_="1", text="a", embedding=[1.0], ref_doc_id="x")
        assert one.hash == TextNode(id_="2", text="a").hash

    @pytest.mark.parametrize(
        "other",
        [
            TextNode(text="b", metadata={"n": 1}),
            TextNode(text="a", metadata={"n": 2}),
            TextNode(text="a", metadata={"n": "1"}),
            TextNode(text="a", metadata={"n": 1.0}),
            TextNode(text="a", metadata={"n": [1]}),
            TextNode(text="a", metadata={"n": 1}, excluded_embed_metadata_keys=["n"]),
            TextNode(text="a", metadata={"n": 1}, excluded_llm_metadata_keys=["n"]),
            TextNode(text="a", metadata={"n": 1}, metadata_template="{key}={value}"),
            TextNode(text="a{'n': 1}"),
            Document(text="a", metadata={"n": 1}),
        ],
    )
    def test_everything_else_counts(self, other):
        assert TextNode(text="a", metadata={"n": 1}).hash != other.hash

    @given(
        st.text(),
        st.dictionaries(st.text(), st.text(), max_size=2),
        st.text(),
        st.dictionaries(st.text(), st.text(), max_size=2),
    )
    def test_nothing_runs_into_something_else(self, text, metadata, other_text, other_metadata):
        one, other = TextNode(text=text, metadata=metadata), TextNode(text=other_text, metadata=other_metadata)
        assert (one.hash == other.hash) == (
            (text, list(metadata.items())) == (other_text, list(other_metadata.items()))
        )

    def test_types_that_json_does_not_know_are_told_apart(self):
        values = [
            "2024-01-01",
            dt.date(2024, 1, 1),
            dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
            pathlib.PurePosixPath("2024-01-01"),
            {"2024-01-01"},
            ("2024-01-01",),
            ["2024-01-01"],
            b"2024-01-01",
            np.int64(2024),
            2024,
        ]
        assert len({TextNode(metadata={"when": value}).hash for value in values}) == len(values)

    def test_it_is_the_same_in_every_process(self):
        # A set's text differs from process to process, and so does what is embedded, unless it is left out.
        metadata = "{'tags': {'a', 'b', 'c'}, 'n': {2: 1.5}}"
        node = f"TextNode(text='é', metadata={metadata}, excluded_embed_metadata_keys=['tags'])"
        code = f"from embed_core.schema import TextNode; print({node}.hash)"
        hashes = {
            subprocess.check_output([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, text=True).strip()
            for seed in "123"
        }
        assert hashes == {eval(node).hash}

    @pytest.mark.parametrize("value", [object(), {1: "a", "b": 2}, lambda: 1])
    def test_what_has_no_stable_form_is_named(self, value):
        with pytest.raises(InvalidInputError, match="node `n` has no stable hash"):
            assert TextNode(id_="n", metadata={"thing": value}).hash

    def test_an_image_counts_by_its_content(self, tmp_path):
        path = tmp_path / "image.png"
        path.write_bytes(b"one")
        before = ImageNode(image_path=str(path)).hash
        path.write_bytes(b"two")
        assert ImageNode(image_path=str(path)).hash != before
        path.write_bytes(b"one")
        assert ImageNode(image_path=str(path)).hash == before
        assert ImageNode(image=b"one").hash != ImageNode(image=b"two").hash != ImageNode(image_url="http://x/").hash

    def test_an_image_that_is_gone_is_named(self, tmp_path):
        with pytest.raises(InvalidInputError, match=r"node `n`.*image_path"):
            assert ImageNode(id_="n", image_path=str(tmp_path / "gone.png")).hash


class TestImageOf:
    def test_each_way_to_give_an_image(self):
        assert image_of(ImageNode(image=b"\x89PNG")) == b"\x89PNG"
        assert image_of(ImageNode(image=base64.encodebytes(b"\x89PNG" * 40).decode())) == b"\x89PNG" * 40
        assert image_of(ImageNode(image="data:image/png;base64,AAAA")) == "data:image/png;base64,AAAA"
        assert image_of(ImageNode(image_path="a.png")) == "a.png"
        assert image_of(ImageNode(image_url="https://example.org/a.png")) == "https://example.org/a.png"

    def test_what_has_none_has_none(self):
        assert image_of(ImageNode(text="only text")) is None
        assert image_of(TextNode(text="only text")) is None

    def test_what_is_no_base64_is_named(self):
        with pytest.raises(InvalidInputError, match=r"node `n`.*image_path"):
            image_of(ImageNode(id_="n", image="picture.png"))


@pytest.fixture(params=["sync", "async"])
def embed(request):
    """Embed nodes in one colour or the other."""
    if request.param == "sync":
        return lambda model, nodes: model(nodes)
    return lambda model, nodes: asyncio.run(model.acall(nodes))


class TestEmbedding:
    def test_a_model_embeds_what_is_meant_for_it(self, embed):
        model = MockEmbedding()
        nodes = [TextNode(text="a", metadata={"k": "v"}), Document(text="b")]
        assert embed(model, nodes) is nodes
        assert nodes[0].embedding == model.get_text_embedding("k: v\n\na")
        assert nodes[1].embedding == model.get_text_embedding("b")

    def test_a_text_model_embeds_an_image_node_s_text(self, embed):
        (node,) = embed(MockEmbedding(), [ImageNode(text="a wing", image=b"...")])
        assert node.embedding == MockEmbedding().get_text_embedding("a wing")

    def test_a_multi_modal_model_embeds_images_as_images_and_texts_as_texts_in_order(self, embed, tmp_path):
        (tmp_path / "b.png").write_bytes(png(90))
        nodes = [
            ImageNode(image=png(10), text="caption"),
            TextNode(text="a"),
            ImageNode(image_path=str(tmp_path / "b.png")),
            ImageNode(text="no image"),
        ]
        model = MockMultiModalEmbedding(embed_batch_size=2)
        embed(model, nodes)
        expected = [
            model.get_image_embedding(png(10)),
            model.get_text_embedding("a"),
            model.get_image_embedding(png(90)),
            model.get_text_embedding("no image"),
        ]
        assert [node.embedding for node in nodes] == expected
        assert embed(model, []) == []

    def test_a_bad_image_is_named_by_its_place_among_all_nodes_before_any_text_is_paid(self, embed):
        model = MockMultiModalEmbedding()
        nodes = [TextNode(text="a"), ImageNode(image=png(1)), TextNode(text="b"), ImageNode(image=b"no image")]
        with pytest.raises(InvalidInputError, match="input 3") as caught:
            embed(model, nodes)
        assert caught.value.indices == (3,)
        assert model.call_count == 0
        assert [node.embedding for node in nodes] == [None] * 4

    def test_a_failure_at_the_texts_keeps_the_images(self, embed):
        class Failing(MockMultiModalEmbedding):
            def _get_text_embeddings(self, texts):
                raise AuthenticationError("the key was revoked")

        nodes = [TextNode(text="a"), ImageNode(image=png(1)), TextNode(text="b")]
        with pytest.raises(AuthenticationError) as caught:
            embed(Failing(), nodes)
        assert list(caught.value.completed) == [1]
        assert sorted(caught.value.failed) == [0, 2]

    def test_anything_with_content_and_room_for_an_embedding_is_a_node(self, embed):
        class Foreign:
            embedding = None

            def get_content(self, metadata_mode="all"):
                return f"for {metadata_mode}"

        (node,) = embed(MockEmbedding(), [Foreign()])
        assert node.embedding == MockEmbedding().get_text_embedding("for embed")
        (node,) = embed(MockMultiModalEmbedding(), [Foreign()])
        assert node.embedding == MockEmbedding().get_text_embedding("for embed")


class TestLlamaIndex:
    @pytest.fixture
    def theirs(self):
        reason = "llama-index-core is not installed; it is in the dependency group `bench`"
        return pytest.importorskip("llama_index.core.schema", reason=reason)

    def test_their_nodes_are_nodes(self, theirs, embed):
        fields = {"text": "a", "metadata": {"k": "v", "x": "y"}, "excluded_embed_metadata_keys": ["x"]}
        nodes = [theirs.TextNode(**fields), theirs.Document(**fields), theirs.ImageNode(**fields)]
        for model in (MockEmbedding(), MockMultiModalEmbedding()):
            embed(model, nodes)
            assert [node.embedding for node in nodes] == [MockEmbedding().get_text_embedding("k: v\n\na")] * 3

    def test_their_images_are_images(self, theirs, embed):
        node = theirs.ImageNode(image=base64.b64encode(png(7)).decode())
        model = MockMultiModalEmbedding()
        embed(model, [node])
        assert node.embedding == model.get_image_embedding(png(7))

    @given(
        st.text(max_size=9),
        st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(), max_size=3),
        st.lists(st.text(max_size=5), max_size=2),
    )
    def test_our_content_is_theirs(self, text, metadata, hidden):
        theirs = pytest.importorskip("llama_index.core.schema", reason="llama-index-core is not installed")
        fields = {
            "text": text,
            "metadata": metadata,
            "excluded_embed_metadata_keys": hidden,
            "excluded_llm_metadata_keys": hidden[1:],
        }
        for mode in MetadataMode:
            assert TextNode(**fields).get_content(mode) == theirs.TextNode(**fields).get_content(
                theirs.MetadataMode(mode)
            )
        assert json.loads(TextNode(**fields).model_dump_json())["metadata_template"] == "{key}: {value}"
