"""The families of networks. Each one is a function that lists its edges. No torch here.

To add a family, write such a function with the vocabulary of `spaces.description`, and add its family to
`FAMILIES`. The tests over all families then check it. docs/supernet.md has an example.
"""

from __future__ import annotations

from nas.spaces.description import (
    GDN,
    Branch,
    Conv,
    Deconv,
    Depthwise,
    Edge,
    Family,
    Layer,
    Leaf,
    LeakyReLU,
    Parallel,
    ReLU,
    Repeat,
    Residual,
    Subpel,
)

# Transforms that several families share


def _gdn_analysis() -> Edge:
    """Four 5x5 convolutions of stride 2 with GDN between (Ballé et al., ICLR 2018)."""
    return Edge(
        (
            Conv("x", "g_a.1", 5, 2),
            GDN("g_a.1"),
            Conv("g_a.1", "g_a.2", 5, 2),
            GDN("g_a.2"),
            Conv("g_a.2", "g_a.3", 5, 2),
            GDN("g_a.3"),
            Conv("g_a.3", "y", 5, 2),
        ),
        reduction=1,
    )


def _gdn_synthesis() -> Edge:
    """The mirror: four transposed convolutions with inverse GDN between them."""
    return Edge(
        (
            Deconv("y", "g_s.1", 5),
            GDN("g_s.1", inverse=True),
            Deconv("g_s.1", "g_s.2", 5),
            GDN("g_s.2", inverse=True),
            Deconv("g_s.2", "g_s.3", 5),
            GDN("g_s.3", inverse=True),
            Deconv("g_s.3", "x", 5),
        ),
        reduction=16,
    )


def _hyper_analysis(activation: Leaf, *, magnitude: bool = False) -> Edge:
    layers: tuple[Layer, ...] = (
        Conv("y", "h_a.1", 3),
        activation,
        Conv("h_a.1", "h_a.2", 5, 2),
        activation,
        Conv("h_a.2", "z", 5, 2),
    )
    return Edge(layers, reduction=16, magnitude=magnitude)


def _hyper_synthesis(activation: Leaf, *last: Leaf) -> Edge:
    layers: tuple[Layer, ...] = (
        Deconv("z", "h_s.1", 5),
        activation,
        Deconv("h_s.1", "h_s.2", 5),
        activation,
        Conv("h_s.2", "psi", 3),
        *last,
    )
    return Edge(layers, reduction=64)


# The families


def factorized() -> Family:
    """y under a factorised prior, without a hyper-latent."""
    return Family(
        "factorized",
        {"g_a": _gdn_analysis(), "g_s": _gdn_synthesis()},
        compressai="bmshj2018-factorized",
        source="Ballé et al., ICLR 2018, the factorised-prior model",
    )


def scale_hyperprior() -> Family:
    """z predicts the scale of every element of y."""
    return Family(
        "scale-hyperprior",
        {
            "g_a": _gdn_analysis(),
            "h_a": _hyper_analysis(ReLU(), magnitude=True),
            "h_s": _hyper_synthesis(ReLU(), ReLU()),
            "g_s": _gdn_synthesis(),
        },
        means=False,
        compressai="bmshj2018-hyperprior",
        source="Ballé et al., ICLR 2018",
    )


def mean_scale_hyperprior() -> Family:
    """z predicts the scale and the mean of every element of y."""
    return Family(
        "mean-scale-hyperprior",
        {
            "g_a": _gdn_analysis(),
            "h_a": _hyper_analysis(LeakyReLU()),
            "h_s": _hyper_synthesis(LeakyReLU()),
            "g_s": _gdn_synthesis(),
        },
        compressai="mbt2018-mean",
        source="Minnen et al., NeurIPS 2018, without its context model",
    )


def joint_ar() -> Family:
    """z and previously decoded elements predict scale and mean: the backbone of BaSIC."""
    return Family(
        "joint-ar",
        {
            "g_a": _gdn_analysis(),
            "h_a": _hyper_analysis(LeakyReLU()),
            "h_s": _hyper_synthesis(LeakyReLU()),
            "g_s": _gdn_synthesis(),
        },
        context=True,
        compressai="mbt2018",
        source="Minnen et al., NeurIPS 2018",
    )


def residual() -> Family:
    """Strided convolutions with residual bottleneck blocks between them. The number of blocks is a choice."""

    def blocks(edge: str, stage: int) -> Repeat:
        width, inner = f"{edge}.{stage}", f"{edge}_inner.{stage}"
        body: tuple[tuple[str, Leaf], ...] = (
            ("conv1", Conv(width, inner, 1)),
            ("relu1", ReLU()),
            ("conv2", Conv(inner, inner, 3)),
            ("relu2", ReLU()),
            ("conv3", Conv(inner, width, 1)),
        )
        return Repeat((Residual(body),), depth=f"{edge}_depth.{stage}")

    analysis: tuple[Layer, ...] = (
        Conv("x", "g_a.1", 5, 2),
        blocks("g_a", 1),
        Conv("g_a.1", "g_a.2", 5, 2),
        blocks("g_a", 2),
        Conv("g_a.2", "g_a.3", 5, 2),
        blocks("g_a", 3),
        Conv("g_a.3", "y", 5, 2),
    )
    synthesis: tuple[Layer, ...] = (
        Deconv("y", "g_s.1", 5),
        blocks("g_s", 1),
        Deconv("g_s.1", "g_s.2", 5),
        blocks("g_s", 2),
        Deconv("g_s.2", "g_s.3", 5),
        blocks("g_s", 3),
        Deconv("g_s.3", "x", 5),
    )
    return Family(
        "residual",
        {
            "g_a": Edge(analysis, reduction=1),
            "h_a": _hyper_analysis(ReLU()),
            "h_s": _hyper_synthesis(ReLU()),
            "g_s": Edge(synthesis, reduction=16),
        },
        context=True,
        source="after ELIC (He et al., CVPR 2022), without attention",
    )


def cheng() -> Family:
    """3x3 residual blocks and sub-pixel upsampling, without attention."""

    def strided(inputs: str, outputs: str) -> Residual:
        body: tuple[tuple[str, Leaf], ...] = (
            ("conv1", Conv(inputs, outputs, 3, 2)),
            ("leaky_relu", LeakyReLU()),
            ("conv2", Conv(outputs, outputs, 3)),
            ("gdn", GDN(outputs)),
        )
        return Residual(body, ("skip", Conv(inputs, outputs, 1, 2)))

    def upsampling(inputs: str, outputs: str) -> Residual:
        body: tuple[tuple[str, Leaf], ...] = (
            ("subpel_conv", Subpel(inputs, outputs)),
            ("leaky_relu", LeakyReLU()),
            ("conv", Conv(outputs, outputs, 3)),
            ("igdn", GDN(outputs, inverse=True)),
        )
        return Residual(body, ("upsample", Subpel(inputs, outputs)))

    def block(width: str, hidden: str) -> Residual:
        return Residual(
            (
                ("conv1", Conv(width, hidden, 3)),
                ("leaky_relu", LeakyReLU()),
                ("conv2", Conv(hidden, width, 3)),
                ("leaky_relu2", LeakyReLU()),
            )
        )

    return Family(
        "cheng",
        {
            "g_a": Edge(
                (
                    strided("x", "g_a.1"),
                    block("g_a.1", "g_a.1"),
                    strided("g_a.1", "g_a.2"),
                    block("g_a.2", "g_a.2"),
                    strided("g_a.2", "g_a.3"),
                    block("g_a.3", "g_a.3"),
                    Conv("g_a.3", "y", 3, 2),
                ),
                reduction=1,
            ),
            "h_a": Edge(
                (
                    Conv("y", "h_a.1", 3),
                    LeakyReLU(),
                    Conv("h_a.1", "h_a.2", 3),
                    LeakyReLU(),
                    Conv("h_a.2", "h_a.3", 3, 2),
                    LeakyReLU(),
                    Conv("h_a.3", "h_a.4", 3),
                    LeakyReLU(),
                    Conv("h_a.4", "z", 3, 2),
                ),
                reduction=16,
            ),
            "h_s": Edge(
                (
                    Conv("z", "h_s.1", 3),
                    LeakyReLU(),
                    Subpel("h_s.1", "h_s.2"),
                    LeakyReLU(),
                    Conv("h_s.2", "h_s.3", 3),
                    LeakyReLU(),
                    Subpel("h_s.3", "h_s.4"),
                    LeakyReLU(),
                    Conv("h_s.4", "psi", 3),
                ),
                reduction=64,
            ),
            "g_s": Edge(
                (
                    block("y", "g_s.1"),
                    upsampling("y", "g_s.2"),
                    block("g_s.2", "g_s.2"),
                    upsampling("g_s.2", "g_s.3"),
                    block("g_s.3", "g_s.3"),
                    upsampling("g_s.3", "g_s.4"),
                    block("g_s.4", "g_s.4"),
                    Subpel("g_s.4", "x"),
                ),
                reduction=16,
            ),
        },
        context=True,
        compressai="cheng2020-anchor",
        source="Cheng et al., CVPR 2020, CompressAI's anchor without attention",
    )


def patch() -> Family:
    """A linear block transform that always runs, and parallel blocks at 1/8 and 1/16 of the resolution.

    Every learned part ends in a layer that begins with zeros. At first, every architecture is therefore the
    same linear codec, and each part is worth what it adds. A depth of 0 leaves a part out::

        x --+-- 8x8 patches ------------ 2x2 patches ------------------------------------------+--> y
            +-- 8x8 patches -- blocks --+-- 2x2 patches ---------------------------------------+
                                        +-- 2x2 patches -- blocks -- 1x1 ----------------------+

    g_s is the mirror of this. After its blocks at 1/8 come patches of 8x8 pixels and, in parallel, a
    pointwise renderer on a grid of 1/4.
    """

    def blocks(edge: str, stage: int) -> Repeat:
        width, inner = f"{edge}.{stage}", f"{edge}_inner.{stage}"
        spatial = Residual(
            (
                ("conv1", Conv(width, width, 1)),
                ("leaky_relu", LeakyReLU()),
                ("depthwise", Depthwise(width)),
                ("conv2", Conv(width, width, 1)),
            )
        )
        pointwise = Residual(
            (
                ("conv1", Conv(width, inner, 1)),
                ("leaky_relu", LeakyReLU()),
                ("conv2", Conv(inner, width, 1)),
            )
        )
        return Repeat((spatial, pointwise), depth=f"{edge}_depth.{stage}")

    deep_analysis: tuple[Layer, ...] = (
        Conv("g_a.1", "g_a.2", 2, 2),
        blocks("g_a", 2),
        Conv("g_a.2", "y", 1, zero=True),
    )
    learned_analysis: tuple[Layer, ...] = (
        Conv("x", "g_a.1", 8, 8),
        blocks("g_a", 1),
        Parallel(
            (
                Branch("direct", (Conv("g_a.1", "y", 2, 2, zero=True),)),
                Branch("deep", deep_analysis, switch="g_a_depth.2"),
            )
        ),
    )
    linear_analysis = (Conv("x", "linear.1", 8, 8), Conv("linear.1", "y", 2, 2))
    deep_synthesis: tuple[Layer, ...] = (
        Conv("y", "g_s.1", 1),
        blocks("g_s", 1),
        Subpel("g_s.1", "g_s.2", 1),
    )
    renderer: tuple[Layer, ...] = (
        Subpel("g_s.2", "g_s_renderer", 1, 2),
        LeakyReLU(),
        Conv("g_s_renderer", "g_s_renderer", 1),
        LeakyReLU(),
        Subpel("g_s_renderer", "x", 1, 4, zero=True),
    )
    learned_synthesis: tuple[Layer, ...] = (
        Parallel(
            (
                Branch("direct", (Subpel("y", "g_s.2", 1),)),
                Branch("deep", deep_synthesis, switch="g_s_depth.1"),
            )
        ),
        blocks("g_s", 2),
        Parallel(
            (
                Branch("direct", (Subpel("g_s.2", "x", 1, 8, zero=True),)),
                Branch("renderer", renderer, switch="g_s_renderer"),
            )
        ),
    )
    linear_synthesis = (Subpel("y", "linear.2", 1), Subpel("linear.2", "x", 1, 8))

    def beside(linear: tuple[Layer, ...], learned: tuple[Layer, ...], switch: str) -> tuple[Layer, ...]:
        return (Parallel((Branch("linear", linear), Branch("learned", learned, switch=switch))),)

    return Family(
        "patch",
        {
            "g_a": Edge(beside(linear_analysis, learned_analysis, "g_a_depth.1"), reduction=1),
            "h_a": Edge(
                (
                    Conv("y", "h_a.1", 1),
                    LeakyReLU(),
                    Conv("h_a.1", "h_a.2", 3, 2),
                    LeakyReLU(),
                    Conv("h_a.2", "z", 3, 2),
                ),
                reduction=16,
            ),
            "h_s": Edge(
                (
                    Subpel("z", "h_s.1", 3),
                    LeakyReLU(),
                    Subpel("h_s.1", "h_s.2", 3),
                    LeakyReLU(),
                    Conv("h_s.2", "psi", 1),
                ),
                reduction=64,
            ),
            "g_s": Edge(beside(linear_synthesis, learned_synthesis, "g_s_depth.2"), reduction=16),
        },
        context=True,
        source="blocks after DCVC-RT (Jia et al., CVPR 2025), the renderer after PULSE (2026)",
    )


FAMILIES = {
    family.name: family
    for family in (
        factorized(),
        scale_hyperprior(),
        mean_scale_hyperprior(),
        joint_ar(),
        residual(),
        cheng(),
        patch(),
    )
}
