"""Images from every source: one digest, upright pixels, and nothing broken ever reaches a provider."""

import base64
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import suppress
from typing import Annotated

import numpy as np
import pyarrow as pa
import pytest
from embed_core import OPERATIONAL, MockMultiModalEmbedding, RetryPolicy, open_image
from embed_core._images import ImageLoader, _decode
from embed_core.errors import IntegrationNotInstalledError, InvalidInputError, RateLimitError
from embed_core.instrumentation import CallbackManager
from embed_core.kvstore import MemoryKVStore
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

BROAD = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def file_of(pixels, file_format="PNG", orientation=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def photo(seed=0, size=48):
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)


def data_uri(content):
    return "data:image/png;base64," + base64.b64encode(content).decode()


def huge_png(width, height):
    """A PNG of a few dozen bytes that claims any size."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def digest(source):
    with ImageLoader() as loader:
        return loader.load(source).digest


def refusal(source):
    with ImageLoader() as loader, pytest.raises(InvalidInputError) as caught:
        loader.load(source)
    return str(caught.value)


# One content, many sources


@given(seed=st.integers(0, 1000), file_format=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]))
@settings(max_examples=30)
def test_one_file_has_one_digest_and_the_same_content_whatever_way_it_comes(tmp_path_factory, seed, file_format):
    content = file_of(photo(seed), file_format)
    path = tmp_path_factory.mktemp("images") / "an image"
    path.write_bytes(content)
    written = io.BytesIO()
    written.write(content)
    sources = [
        str(path),
        path,
        content,
        bytearray(content),
        memoryview(content),
        written,
        data_uri(content),
        "DATA:," + "".join(f"%{byte:02x}" for byte in content),
        pa.scalar(content),
    ]
    with ImageLoader() as loader, path.open("rb") as file:
        images = [loader.load(source) for source in [*sources, file]]
        assert len({image.digest for image in images}) == 1
        assert {image.open().getvalue() for image in images} == {content}


def test_a_picture_in_memory_has_the_digest_of_its_pixels_as_array_and_as_pil_image():
    pixels = photo()
    assert digest(pixels) == digest(Image.fromarray(pixels)) == digest(pixels.copy(order="F"))
    assert len({digest(one) for one in (pixels, pixels[:, :24], pixels[:24], pixels[:, :, 0], 255 - pixels)}) == 5


def test_shape_and_mode_belong_to_the_digest_of_pixels():
    flat = np.zeros((4, 9), dtype=np.uint8)
    assert len({digest(flat), digest(flat.reshape(9, 4)), digest(np.zeros((4, 3, 3), dtype=np.uint8))}) == 3


def test_two_palettes_over_the_same_indices_are_two_images():
    one = Image.new("P", (2, 2))
    other = one.copy()
    one.putpalette([255, 0, 0])
    other.putpalette([0, 0, 255])
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F"]
)
def test_a_pil_image_of_any_mode_arrives_as_a_file_with_the_same_colours(mode):
    image = Image.fromarray(photo()).convert("L" if mode == "I;16" else "RGB").convert(mode)
    with ImageLoader() as loader:
        file = loader.load(image).open()
    assert np.array_equal(np.asarray(open_image(file)), np.asarray(open_image(image)))


def test_a_transparent_palette_keeps_its_transparency():
    image = Image.new("P", (2, 2))
    image.putpalette([255, 0, 0])
    image.info["transparency"] = 0
    with ImageLoader() as loader:
        assert Image.open(loader.load(image).open()).convert("RGBA").getpixel((0, 0)) == (255, 0, 0, 0)


def drawing(mode: str, column: int) -> Image.Image:
    """Return a black stroke on a transparent ground, whose hidden colour is black too."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (column, 0, column + 2, 8))
    if mode != "P":
        return image.convert(mode)
    palette = Image.new("P", (8, 8), 0)
    palette.paste(1, (column, 0, column + 2, 8))
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.info["transparency"] = 0
    return palette


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white_in_memory_and_in_a_file_and_it_is_said_once(mode, caplog):
    _decode._say_once.cache_clear()
    for column in (1, 5):
        image = drawing(mode, column)
        for source in (image, file_of(image)):
            pixels = np.asarray(open_image(source))
            assert (pixels[:, column : column + 2] == 0).all()
            assert (np.delete(pixels, [column, column + 1], axis=1) == 255).all()
    assert len(caplog.messages) == 1
    assert "on a white ground" in caplog.messages[0]


def test_pixels_that_hide_nothing_are_as_they_were_and_half_of_one_is_mixed(caplog):
    opaque = Image.fromarray(photo()).convert("RGBA")
    assert np.array_equal(np.asarray(open_image(opaque)), photo())
    assert not caplog.messages
    assert open_image(Image.new("RGBA", (1, 1), (0, 0, 0, 127))).getpixel((0, 0)) == (128, 128, 128)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    grey = Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16))
    for source in (grey, file_of(grey)):
        assert np.asarray(open_image(source))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("orientation", sorted(TURNS))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_the_exif_orientation_turns_the_picture_upright(orientation, file_format):
    content = file_of(BROAD, file_format, orientation, **({"lossless": True} if file_format == "WEBP" else {}))
    upright = TURNS[orientation](BROAD)
    assert np.array_equal(np.asarray(open_image(content)), upright)
    opened = Image.open(io.BytesIO(content))
    assert np.array_equal(np.asarray(open_image(opened)), upright)
    assert digest(Image.open(io.BytesIO(content))) == digest(np.ascontiguousarray(upright))


def test_a_rotated_jpeg_photograph_comes_upright():
    broad = np.zeros((16, 64, 3), dtype=np.uint8)
    broad[:, 32:] = 255
    tall = open_image(file_of(broad, "JPEG", orientation=6))
    assert tall.size == (16, 64)
    assert tall.getpixel((8, 8))[0] < 30 < 220 < tall.getpixel((8, 56))[0]


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_means_nothing_turns_nothing(orientation):
    assert np.array_equal(np.asarray(open_image(file_of(BROAD, orientation=orientation))), BROAD)


def test_metadata_too_damaged_to_read_turns_nothing():
    content = file_of(BROAD, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(np.asarray(open_image(content)), BROAD)


# Nothing broken


@given(data=st.data(), file_format=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]))
@settings(max_examples=100)
def test_a_file_cut_anywhere_is_refused_unless_every_pixel_is_still_there(data, file_format):
    content = file_of(photo(), file_format)
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    try:
        digest(cut)
    except InvalidInputError:
        return
    assert np.array_equal(np.asarray(open_image(cut)), np.asarray(open_image(content)))


@given(content=st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: file_of(BROAD)[:40] + tail))
@settings(max_examples=100)
def test_arbitrary_bytes_are_refused_by_name_or_opened(content):
    with suppress(InvalidInputError):
        assert open_image(content).mode == "RGB"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_500, 20_000, 2_000_000])
def test_a_file_that_unpacks_beyond_measure_is_refused_in_little_memory(side):
    tracemalloc.start()
    assert "MAX_IMAGE_PIXELS" in refusal(huge_png(side, side))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_bomb_is_refused_where_warnings_are_errors_and_where_pillow_has_no_limit(monkeypatch):
    assert "MAX_IMAGE_PIXELS" in refusal(huge_png(9_500, 9_500))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "89478485" in refusal(huge_png(20_000, 20_000))


def test_pillows_own_limit_counts_for_pictures_in_memory_too(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    for source in (BROAD, Image.fromarray(BROAD)):
        assert "3 x 2 pixels, more than 4" in refusal(source)


def test_formats_that_run_other_programs_are_not_read():
    stream = io.BytesIO()
    Image.fromarray(BROAD).save(stream, "EPS")
    assert "no image in a format that is read here" in refusal(stream.getvalue())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "is `None`"),
        (7, "of type `int`"),
        (b"", "no image"),
        (b"plain words", "no image"),
        ("", "no regular file"),
        ("no/such/file.png", "No such file"),
        ("a\0b", "null "),
        ("x" * 5000, "name too long"),
        ("data:image/png;base64", "without a comma"),
        ("data:image/png;base64,%%%", "damaged `data:` URI"),
        ("data:image/png;base64,aGVsbG8", "damaged `data:` URI"),
        ("file:///etc/hostname", "the path `"),
        ("s3://bucket/key", "the path `"),
        ("HTTPS://example.org/a.png", "fetching is off"),
        (np.zeros((2, 2, 3)), "type float64"),
        (np.zeros((2, 2, 2), dtype=np.uint8), "shape (2, 2, 2)"),
        (np.zeros((2,), dtype=np.uint8), "shape (2,)"),
        (np.zeros((0, 2, 3), dtype=np.uint8), "empty"),
        (Image.new("RGB", (0, 3)), "empty"),
        (io.StringIO("words"), "mode 'rb'"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else None,
)
def test_what_is_no_image_is_refused_with_what_it_is(source, said):
    message = refusal(source)
    assert said.lower() in message.lower()
    assert len(message) < 300


def test_folders_and_pipes_are_refused_without_opening_them(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        assert "no regular file" in refusal(path)


def test_a_file_of_half_a_gigabyte_is_refused_unread(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**29 + 1)
    assert "larger than 512 MiB" in refusal(tmp_path / "large")


def test_a_file_object_that_fails_or_is_closed_is_refused(tmp_path):
    class Failing(io.RawIOBase):
        def read(self, size=-1):
            raise OSError("the disk is gone")

    assert "the disk is gone" in refusal(Failing())
    closed = io.BytesIO()
    closed.close()
    assert "closed" in refusal(closed)


def test_a_stream_that_cannot_seek_is_read_once_and_given_as_often_as_asked():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise OSError("a pipe")

    content = file_of(BROAD)
    with ImageLoader() as loader:
        image = loader.load(Pipe(content))
        assert image.open().getvalue() == image.open().getvalue() == content


# On the way to the provider


class Paint(MockMultiModalEmbedding):
    """Fails as often as set before it answers."""

    failures: Annotated[int, OPERATIONAL] = 0

    def _get_image_embeddings(self, images):
        if self._take_failure():
            raise RateLimitError("slow down", retry_after=0.0)
        return super()._get_image_embeddings(images)

    async def _aget_image_embeddings(self, images):
        return self._get_image_embeddings(images)

    def _take_failure(self):
        if self.failures:
            self.__dict__["failures"] -= 1
            return True
        return False


def files_in(folder, count):
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(file_of(photo(number, size=8)))
    return paths


@pytest.mark.parametrize("workers", [1, 3])
async def test_images_are_batched_in_order_sync_and_async(tmp_path, workers):
    model = MockMultiModalEmbedding(embed_batch_size=4, num_workers=workers)
    paths = files_in(tmp_path, 10)
    vectors = model.embed_images(paths)
    assert sorted(len(call.inputs) for call in model.calls) == [2, 4, 4]
    assert np.array_equal(vectors, await model.aembed_images(map(str, paths)))
    assert np.array_equal(vectors, [model.get_image_embedding(path.read_bytes()) for path in paths])
    assert vectors.tolist() == await model.aget_image_embedding_batch(paths)


def test_bad_images_are_named_by_index_before_anything_is_sent(tmp_path):
    paths = files_in(tmp_path, 3)
    model = MockMultiModalEmbedding(embed_batch_size=1)
    with pytest.raises(InvalidInputError) as caught:
        model.embed_images([*paths, None, b"words", paths[0].read_bytes()[:-30]])
    assert caught.value.indices == (3, 4, 5)
    assert "input 3 is `None`" in str(caught.value)
    assert model.call_count == 0


def test_a_caller_who_goes_on_gets_none_for_the_bad_images(tmp_path):
    paths = files_in(tmp_path, 2)
    found = MockMultiModalEmbedding().get_image_embedding_batch([paths[0], b"words", paths[1]], on_error="none")
    assert [one is None for one in found] == [False, True, False]


def test_one_image_where_several_belong_is_refused(tmp_path):
    model = MockMultiModalEmbedding()
    path = files_in(tmp_path, 1)[0]
    with path.open("rb") as file:
        pictures = (photo(), photo()[:, :, 0], Image.new("L", (2, 2)))
        for one in (str(path), path, path.read_bytes(), memoryview(path.read_bytes()), file, *pictures):
            with pytest.raises(InvalidInputError, match="wrap it in a list"):
                model.embed_images(one)
    assert model.embed_images(np.stack([photo(1), photo(2)])).shape == (2, 8)


def test_an_array_of_paths_is_several_images(tmp_path):
    paths = files_in(tmp_path, 3)
    model = MockMultiModalEmbedding()
    vectors = model.embed_images(paths)
    assert np.array_equal(model.embed_images(np.array([str(path) for path in paths])), vectors)
    assert np.array_equal(model.embed_images(np.array(paths, dtype=object)), vectors)


def test_images_are_cached_by_content_wherever_they_lie(tmp_path):
    model = MockMultiModalEmbedding(embeddings_cache=MemoryKVStore())
    first, second = files_in(tmp_path, 2)
    vectors = model.embed_images([first, second])
    first.rename(tmp_path / "elsewhere")
    again = model.embed_images([second, data_uri((tmp_path / "elsewhere").read_bytes()), second.read_bytes()])
    assert model.input_count == 2
    assert np.array_equal(again, vectors[[1, 0, 1]])
    first.write_bytes(second.read_bytes())
    assert np.array_equal(model.embed_images([first]), vectors[[1]])


def test_an_image_and_a_text_of_the_same_bytes_never_share_an_entry():
    model = MockMultiModalEmbedding(embeddings_cache=MemoryKVStore())
    content = file_of(BROAD)
    model.embed_images([content])
    model.embed_texts([digest(content).decode("latin-1")])
    assert model.input_count == 2


async def test_images_are_sent_again_after_a_failure_that_can_pass(tmp_path):
    model = Paint(failures=2, retry=RetryPolicy(initial_seconds=0), embed_batch_size=2)
    sources = [io.BytesIO(file_of(photo(number))) for number in range(3)]
    expected = MockMultiModalEmbedding().embed_images([source.getvalue() for source in sources])
    assert np.array_equal(model.embed_images(sources), expected)
    model.failures = 2
    assert np.array_equal(await model.aembed_images(sources), expected)


def test_image_batches_have_events_like_any_other():
    heard = []
    manager = CallbackManager()
    manager.add_handler(heard.append)
    model = MockMultiModalEmbedding(callback_manager=manager, embed_batch_size=2, embeddings_cache=MemoryKVStore())
    model.embed_images([photo(1), photo(2), photo(3), photo(1)])
    starts = [event for event in heard if type(event).__name__ == "EmbeddingStartEvent"]
    assert [(event.kind, event.batch_size) for event in starts] == [("image", 2), ("image", 1)]
    assert repr(starts[0].chunks[0]).startswith("<image 0, ")


@pytest.mark.parametrize("change", ["write", "remove"])
@pytest.mark.parametrize("size", [1, 2])
def test_a_file_that_changes_while_it_is_embedded_is_an_error_not_a_wrong_vector(tmp_path, change, size):
    store = MemoryKVStore()
    paths = files_in(tmp_path, 4)

    class Meddling(MockMultiModalEmbedding):
        def _get_image_embeddings(self, images):
            if self.call_count == 0:
                paths[3].write_bytes(file_of(BROAD)) if change == "write" else paths[3].unlink()
            return super()._get_image_embeddings(images)

    model = Meddling(embed_batch_size=size, embeddings_cache=store)
    with pytest.raises(InvalidInputError, match=r"input 3 (changed|could be read)") as caught:
        model.embed_images(paths)
    assert caught.value.indices == (3,)
    assert sorted(caught.value.completed) == [0, 1, 2]
    assert len(store) == 3


def test_an_array_that_changes_while_it_is_embedded_is_an_error():
    pixels = photo()
    with ImageLoader() as loader:
        image = loader.load(pixels)
        pixels[0, 0] = 255 - pixels[0, 0]
        with pytest.raises(InvalidInputError, match="changed while it was being embedded"):
            image.open()


def test_relative_paths_are_those_of_the_moment_of_the_call(tmp_path, monkeypatch):
    path = files_in(tmp_path, 1)[0]
    monkeypatch.chdir(tmp_path)
    with ImageLoader() as loader:
        image = loader.load(path.name)
        monkeypatch.chdir("/")
        assert image.open().getvalue() == path.read_bytes()


def test_memory_holds_a_batch_of_files_never_all_of_them(tmp_path):
    class Forgetful(MockMultiModalEmbedding):
        def _answer(self, kind, inputs, contents):
            return super()._answer(kind, [], contents)

    paths = [tmp_path / f"{number}.bmp" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(file_of(photo(number, size=500), "BMP"))  # 750 kB each
    model = Forgetful(embed_batch_size=2)
    model.embed_images(paths[:2])
    tracemalloc.start()
    model.embed_images(paths)
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_without_pillow_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    for call in (MockMultiModalEmbedding().get_image_embedding, open_image):
        with pytest.raises(IntegrationNotInstalledError, match=r'pip install "embed-core\[images\]"'):
            call(b"anything")


def test_importing_the_package_loads_neither_pillow_nor_an_http_client():
    code = "import sys, embed_core; print({'PIL', 'http.client'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
