"""A table of answer pairs over the kinds of mathematics that competition answers hold; verdicts are
the mathematical ones.

Each kind has pairs that are equal and pairs that are not, of which the wrong ones are near misses:
a sign, an open end, a lost factor, one element less."""

import pytest

from sar_jax.text.answers.judge import verify

RIGHT, WRONG = True, False


def boxed(*pairs):
    return [(rf"So we get \boxed{{{answer}}}.", truth, right) for answer, truth, right in pairs]


PAIRS = {
    "fractions": boxed(
        (r"\frac{21}{35}", "3/5", RIGHT),
        (r"\cfrac{8}{12}", r"\frac23", RIGHT),
        (r"\frac7{4}", "1.75", RIGHT),
        (r"-\frac{9}{4}", r"\frac{-9}{4}", RIGHT),
        (r"\frac{3}{5}", r"\frac{5}{3}", WRONG),
        (r"\frac{9}{4}", "-9/4", WRONG),
        (r"\frac{1+2}{4}", "0.75", RIGHT),
        (r"\frac{1}{2}+\frac{1}{3}", r"\frac56", RIGHT),
        (r"\frac{1}{2}+\frac{1}{3}", r"\frac25", WRONG),
    ),
    "mixed numbers": boxed(
        (r"3\frac{2}{7}", r"\frac{23}{7}", RIGHT),
        ("2 5/8", "2.625", RIGHT),
        (r"-1\frac{3}{4}", "-1.75", RIGHT),
        (r"3\frac{2}{7}", r"\frac{6}{7}", WRONG),
        (r"-1\frac{3}{4}", "-0.25", WRONG),
        ("2 9/8", "3.125", WRONG),
        ("2 9/8", "9/8", WRONG),
        ("2 8/8", "3", WRONG),
    )
    + [("7\n3/5", "38/5", WRONG), ("7\n3/5", "3/5", RIGHT)],
    "percentages": boxed(
        (r"37.5\%", r"\frac38", RIGHT),
        ("37.5 pct", "0.375", RIGHT),
        ("12 percentage", "12", RIGHT),
        (r"8\%", "0.8", WRONG),
        (r"250\%", "2.5", RIGHT),
        (r"0.4", r"4\%", WRONG),
    ),
    "decimals": boxed(
        (".25", "0.25", RIGHT),
        (".25", "25", WRONG),
        ("6.40", "6.4", RIGHT),
        ("6.4", "6.04", WRONG),
        ("2,75", "2.75", RIGHT),
        ("2,75", "275", WRONG),
        ("0.3", "0.30001", WRONG),
    ),
    "repeating decimals": boxed(
        (r"0.\overline{27}", r"\frac{3}{11}", RIGHT),
        (r"2.1\overline{6}", r"\frac{13}{6}", RIGHT),
        (r"0.\overline{27}", "0.27", WRONG),
        (r"2.1\overline{6}", r"\frac{21}{10}", WRONG),
    ),
    "rounding": boxed(
        ("0.1428571", r"\frac17", RIGHT),
        ("0.14286", r"\frac17", WRONG),
        ("0.1428577", r"\frac17", WRONG),
        ("2.236068", r"\sqrt5", RIGHT),
        ("2.236", r"\sqrt5", WRONG),
        (r"\frac{7}{3}\approx2.33", "7/3", RIGHT),
        (r"\frac{7}{3}\approx2.33", "2.33", WRONG),
        ("5.0000001", "5", WRONG),
        ("5.0000001", r"\frac{10}{2}", WRONG),
        ("0.000001", r"\frac{1}{700000}", WRONG),
        (r"0.33333333", r"\frac{1}{3.0000009}", WRONG),
    ),
    "thousands": boxed(
        ("12 345 678", "12345678", RIGHT),
        (r"12{,}345{,}678.5", "12345678.5", RIGHT),
        (r"45,\! 600", "45600", RIGHT),
        ("45, 600", "45600", WRONG),
        ("1 000", "1", WRONG),
        ("0,125", "125", WRONG),
        ("4 500", "500", WRONG),
    ),
    "scientific notation": boxed(
        (r"6.02\times10^{5}", "602000", RIGHT),
        (r"4\cdot 10^{-3}", "1/250", RIGHT),
        ("7e4", "70000", RIGHT),
        (r"6.02\times10^{5}", "60200", WRONG),
        (r"4\cdot 10^{-3}", "4000", WRONG),
    ),
    "currency and units": boxed(
        (r"\$3{,}250.75", "3250.75", RIGHT),
        ("€19", "19", RIGHT),
        (r"14\textnormal{ km}", "14", RIGHT),
        (r"36\text{ m}^2", "36", RIGHT),
        (r"6\text{ N}\cdot\text{m}", "7", WRONG),
        (r"14\textnormal{ km}", "41", WRONG),
    )
    + [
        ("which leaves 1,250.5m²", "1250.5", RIGHT),
        ("which leaves 1,250.5m²", "2", WRONG),
        ("a plot of 48 cm^2 in all", "48", RIGHT),
    ],
    "degrees": boxed(
        (r"135^\circ", "135", RIGHT),
        (r"135^{\circ}", r"135^\circ", RIGHT),
        (r"135^\circ", "45", WRONG),
        (r"72°", r"72^\circ", RIGHT),
    ),
    "powers": boxed(
        ("3^4", "81", RIGHT),
        ("2^{-3}", "0.125", RIGHT),
        ("0.5^2", "1/4", RIGHT),
        ("3^4", "12", WRONG),
        ("-2^2", "4", WRONG),
        ("-2^2", "-4", RIGHT),
        ("2^{3^2}", "512", RIGHT),
        ("2^{3^2}", "64", WRONG),
        (r"8^{2/3}", "4", RIGHT),
        ("0^{-1}", "0", WRONG),
        (r"2^{60}", "1152921504606846976", RIGHT),
        (r"2^{60}", "1152921504606846977", WRONG),
        (r"\frac{1}{2^{80}}", r"\frac{1}{2^{81}}", WRONG),
        (r"\frac{3}{2^{80}}", r"\frac{6}{2^{81}}", RIGHT),
        (r"10^{-9}\sqrt2", r"10^{-9}\sqrt3", WRONG),
    )
    + [
        ("It is 4^3", "3", WRONG),
        ("It is 4^3", "64", RIGHT),
        ("The area is x^2", "2", WRONG),
        ("10^3", "3", WRONG),
    ],
    "roots": boxed(
        (r"\sqrt{72}", r"6\sqrt2", RIGHT),
        (r"\sqrt[3]{54}", r"3\sqrt[3]{2}", RIGHT),
        (r"\frac{6}{\sqrt3}", r"2\sqrt3", RIGHT),
        (r"\sqrt{72}", r"6\sqrt3", WRONG),
        (r"5+\sqrt{7}", r"5-\sqrt{7}", WRONG),
        (r"\frac{3+\sqrt{5}}{2}", "2", WRONG),
        (r"\sqrt[3]{-8}", "2", WRONG),
        ("sqrt(45)", r"3\sqrt{5}", RIGHT),
        (r"\sqrt4 9", "18", RIGHT),
    ),
    "nested roots": boxed(
        (r"\sqrt{7+4\sqrt{3}}", r"2+\sqrt3", RIGHT),
        (r"\sqrt{7-4\sqrt{3}}", r"2+\sqrt3", WRONG),
        (
            r"\frac{\sqrt{\sqrt{5}+\sqrt{2}}}{3+\sqrt{6}}",
            r"\frac{\sqrt{\sqrt{2}+\sqrt{5}}}{\sqrt{6}+3}",
            RIGHT,
        ),
    ),
    "logarithms": boxed(
        (r"\log_3 81", "4", RIGHT),
        (r"\ln e^5", "5", RIGHT),
        (r"2\ln 3", r"\ln 9", RIGHT),
        (r"\log_2 9", "3", WRONG),
        (r"\ln 6", r"\ln 2\cdot\ln 3", WRONG),
    ),
    "trigonometry": boxed(
        (r"\sin\frac{\pi}{6}", "1/2", RIGHT),
        (r"\cos\frac{\pi}{3}", r"\frac{\sqrt3}{2}", WRONG),
        (r"\frac{7\pi}{4}", r"1.75\pi", RIGHT),
        (r"\arctan 1", r"\frac{\pi}{4}", RIGHT),
        (r"1-\sin^2 x", r"\cos^2 x", RIGHT),
        (r"1+\sin^2 x", r"\cos^2 x", WRONG),
        (r"3\pi", "3", WRONG),
        ("9.42", r"3\pi", WRONG),
    ),
    "complex numbers": boxed(
        ("(2+i)(2-i)", "5", RIGHT),
        ("4-3i", "-3i+4", RIGHT),
        ("4-3i", "4+3i", WRONG),
        (r"\frac{1}{i}", "-i", RIGHT),
    ),
    "factorials and binomials": boxed(
        ("5!", "120", RIGHT),
        (r"\frac{8!}{6!}", "56", RIGHT),
        (r"\binom{7}{3}", "35", RIGHT),
        ("5!", "5", WRONG),
        (r"\binom{7}{3}", r"\binom{7}{2}", WRONG),
        (r"\binom{7}{3}", r"\binom{7}{4}", RIGHT),
    ),
    "infinities": boxed(
        (r"+\infty", r"\infty", RIGHT), (r"-\infty", r"+\infty", WRONG), (r"\infty", "0", WRONG)
    ),
    "sets": boxed(
        (r"\{4, 9, 16\}", r"\{16,4,9\}", RIGHT),
        (r"\{4, 9\}", r"\{4,9,16\}", WRONG),
        (r"\{\frac12, 3\}", r"\{3, 0.5\}", RIGHT),
        (r"\varnothing", r"\emptyset", RIGHT),
        (r"\{0\}", r"\emptyset", WRONG),
    ),
    "intervals and unions": boxed(
        (r"(2, 5]", r"\left(2,5\right]", RIGHT),
        (r"(2, 5]", "[2,5]", WRONG),
        (r"(-\infty,4)\cup(4,\infty)", r"(4,\infty)\cup(-\infty,4)", RIGHT),
        (r"(-\infty,4)\cup(4,\infty)", r"(-\infty,\infty)", WRONG),
        (r"[-1,\frac52)", "[-1,2.5)", RIGHT),
        (r"x \in [3,8]", "[3,8]", RIGHT),
        (r"3 \le x \le 8", r"x \in [3,8]", RIGHT),
        (r"x \in [3,8]", r"3 \le x \le 8", RIGHT),
        (r"3 < x \le 8", r"x \in [3,8]", WRONG),
        (r"-[0,4)", "4", WRONG),
    ),
    "inequalities": boxed(
        (r"x \geqslant -6", r"x \ge -6", RIGHT),
        (r"-6 \le x", r"x \ge -6", RIGHT),
        (r"x > -6", r"x \ge -6", WRONG),
        (r"y \neq 2", "y != 2", RIGHT),
        (r"2x > 8", "x > 4", RIGHT),
        (r"2x > 8", "x < 4", WRONG),
    ),
    "tuples": boxed(
        ("(7, -2)", "(7,-2)", RIGHT),
        ("(-2, 7)", "(7,-2)", WRONG),
        (r"(\frac{3}{2}, 4)", "(1.5, 4)", RIGHT),
        ("(x,y)=(7,-2)", "(7,-2)", RIGHT),
        ("(7,-2)", "(a,b)=(7,-2)", RIGHT),
        ("(7,-2,0)", "(7,-2)", WRONG),
        (r"(7\text{ cm}, 2\text{ cm})", "(7, 2)", RIGHT),
    ),
    "lists": boxed(
        ("8, 3, 5", "3, 5, 8", RIGHT),
        ("8, 3", "3, 5, 8", WRONG),
        ("8, 3, 5", "8", WRONG),
        (r"5 \text{ or } x", "5", WRONG),
        ("5 and a half", "5", WRONG),
        (r"4 \text{ and } 6", "6, 4", RIGHT),
        ("(1,6),(2,3)", "(2,3),(1,6)", RIGHT),
        ("(1,6),(3,2)", "(2,3),(1,6)", WRONG),
        ("n = 3, 5, 8", "3,5,8", RIGHT),
        (r"x=2 \text{ or } x=7", "x=7,x=2", RIGHT),
        (r"x=2 \text{ or } x=7", "7", WRONG),
    )
    + [("12, 15", "15", WRONG)],
    "two boxes": [
        (r"so \boxed{4} and \boxed{11}.", "4, 11", RIGHT),
        (r"so \boxed{4} and \boxed{11}.", "11", WRONG),
        (r"$\boxed{4}$, $\boxed{11}$", r"\{4,11\}", RIGHT),
        (r"\boxed{4} pens or \boxed{11} cups", "11, 4", RIGHT),
        (r"\boxed{k = 4} \quad \text{and} \quad \boxed{m = 11}", "k=4, m=11", RIGHT),
        (r"\boxed{4}, then \boxed{11}", "11", RIGHT),
        (r"\boxed{4} and so \boxed{11}", "11", RIGHT),
        (r"\boxed{4} and 7 more are \boxed{11}", "11", RIGHT),
        (r"First \boxed{4}. Also \boxed{11}", "11", RIGHT),
        (r"\boxed{4} apples left over and a few others make \boxed{11}", "11", RIGHT),
        (r"\boxed{4}, that is \boxed{4}", "4", RIGHT),
        (r"\boxed{4}, \boxed{4}", "4", RIGHT),
        ("\\boxed{4}\n\\boxed{11}", "11", RIGHT),
        (r"\boxed{11}", r"\boxed{11} and \boxed{4}", WRONG),
        (r"\boxed{4, 11}", r"\boxed{11} and \boxed{4}", RIGHT),
    ],
    "matrices": boxed(
        (
            r"\begin{bmatrix} 2 & 0 \\ 5 & -1 \end{bmatrix}",
            r"\begin{pmatrix}2&0\\5&-1\end{pmatrix}",
            RIGHT,
        ),
        (
            r"\left[\begin{array}{cc} 2 & 0 \\ 5 & -1 \end{array}\right]",
            r"\begin{pmatrix}2&0\\5&-1\end{pmatrix}",
            RIGHT,
        ),
        (
            r"\begin{pmatrix} 2 & 5 \\ 0 & -1 \end{pmatrix}",
            r"\begin{pmatrix}2&0\\5&-1\end{pmatrix}",
            WRONG,
        ),
        (
            r"\begin{pmatrix} \frac12 \\ 3 \end{pmatrix}",
            r"\begin{pmatrix} 0.5 \\ 3 \end{pmatrix}",
            RIGHT,
        ),
        (r"2\begin{pmatrix} 1 \\ 3 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 6 \end{pmatrix}", RIGHT),
    )
    + [
        (
            r"It is $ \begin{pmatrix} 2 & 0 \\ 5 & -1 \end{pmatrix} $.",
            r"\begin{pmatrix}2&0\\5&-1\end{pmatrix}",
            RIGHT,
        )
    ],
    "equations": boxed(
        ("n = 14", "14", RIGHT),
        ("14", "n = 14", RIGHT),
        ("n = 14", "m = 14", WRONG),
        ("3a + b = 14", "14", RIGHT),
        ("14", "3a + b = 14", WRONG),
        ("14", "a + b = 14", WRONG),
        ("0", "y^2 - 4 = 0", WRONG),
        ("5", "f(2) = 5", RIGHT),
        ("5", "|CD| = 5", RIGHT),
        ("5", "x_1 = 5", RIGHT),
        ("8", "5 + 3 = 8", RIGHT),
        (r"y = 3x - 7", "3x - y = 7", RIGHT),
        ("y = 3x - 7", "3x + y = 7", WRONG),
        (r"\frac{x^2}{9} + y^2 = 1", "x^2 + 9y^2 = 9", RIGHT),
        ("x^2 + y^2 = 9", "x^2 + 9y^2 = 9", WRONG),
        (r"k = \frac{2}{9} \approx 0.22", "2/9", RIGHT),
        ("a = 5 + 6 = 11", "11", RIGHT),
        ("10", "2x = 10", WRONG),
    ),
    "symbolic expressions": boxed(
        ("(a-4)(a+4)", "a^2-16", RIGHT),
        (r"\frac{t+6}{3}", r"\frac{t}{3}+2", RIGHT),
        ("3-2m", "-2m+3", RIGHT),
        ("1", "3-2m", WRONG),
        ("v = 6t", "v = 6", WRONG),
        (r"4\sqrt{2}\text{ cm}", r"4\sqrt2", RIGHT),
        (r"4\sqrt{2} cm^2", r"\sqrt{32}", RIGHT),
        ("(a-4)^2", "a^2-16", WRONG),
        ("a+3b+1", "a+1", WRONG),
        (r"x^{1/2}", r"\sqrt{x}", RIGHT),
        (r"e^{2x}", r"(e^x)^2", RIGHT),
        (r"g(x)", "g(y)", WRONG),
        ("2n", "n^2", WRONG),
        (r"1-\frac1e", r"1+\frac1e", WRONG),
        (r"\sum_{k=1}^{4} k", "10", RIGHT),
    ),
    "plus or minus": boxed(
        (r"\pm 14", "-14, 14", RIGHT),
        (r"\pm 14", "14", WRONG),
        (r"1 \pm \sqrt{2}", r"1+\sqrt2, 1-\sqrt2", RIGHT),
        (r"1 + \sqrt{2}", r"1 \pm \sqrt{2}", WRONG),
    ),
    "ratios and times": boxed(
        ("5:12", "5 : 12", RIGHT),
        ("12:5", "5:12", WRONG),
        ("5:12", "S_{ABCD}:S = 5:12", RIGHT),
        ("4:15", "14:15", WRONG),
    ),
    "number bases": boxed(
        ("2011_4", "2011_4", RIGHT), ("2011_4", "2012_4", WRONG), ("2011_4", "2011_5", WRONG)
    ),
    "text": boxed(
        (r"\text{isosceles}", "isosceles", RIGHT),
        (r"\textsf{Odd}", "odd", RIGHT),
        (r"\text{scalene}", "isosceles", WRONG),
        (r"\text{(D)}", "D", RIGHT),
        (r"\text{(D)}", "C", WRONG),
        (r"\text{even}", "neve", WRONG),
    ),
    "formulas in sentences": [
        (r"Hence the ratio is $\frac{3+\sqrt{5}}{2}$.", r"\frac{3+\sqrt5}{2}", RIGHT),
        (r"Hence the ratio is $\frac{3+\sqrt{5}}{2}$.", "2", WRONG),
        (r"That gives \( (6+5) \)", "11", RIGHT),
        (r"That gives \( (6+5) \)", "5", WRONG),
        (r"so $ y = 9 $ holds.", "9", RIGHT),
        ("$$\n17\n$$", "17", RIGHT),
        (r"The sum is $\frac{2}{9}.$", "2/9", RIGHT),
        (r"$\frac{2}{9},$", "2/9", RIGHT),
        (r"It costs \$4 and \$6", "6", RIGHT),
        ("She pays $4 and then $6", "6", RIGHT),
        ("We use $x$ here. 6 are left", "6", RIGHT),
        ("7 + 5", "12", WRONG),
        ("so 7 + 5", "5", RIGHT),
        ("7 + 5", "5", WRONG),
        ("20 - 6 = 14. 14 - 3 = 11.", "11", RIGHT),
        ("- 6 pears", "6", RIGHT),
        ("-> 6", "6", RIGHT),
        ("vitamin B12X", "12", WRONG),
        ("3x = 9, x = 3", "3", RIGHT),
        ("(a) 5", "5", RIGHT),
        (r"$9$ or $4$", "9, 4", RIGHT),
        (r"$9$ or $4$", "4", WRONG),
    ],
    "statements": [
        ("The answers are $9$ and $4$.", "4, 9", RIGHT),
        ("The answer is $9$ or $4$.", "9", WRONG),
        ("The answer is $9$ when $x = 4$.", "9", RIGHT),
        ("Final Answer: The length of $PQ$ is 48. I hope so.", "48", RIGHT),
        (r"\boxed{12} is half. The final answer is $24$.", "24", RIGHT),
        (r"\boxed{12} is half. The final answer is $24$.", "12", WRONG),
        (r"\boxed{12} it is. The final answer is", "12", RIGHT),
        (r"\boxed{12}. The answer is 24.", "12", RIGHT),
        ("The final answer is clear: 24", "24", RIGHT),
        (r"The answer is $x$, the smaller one.", "x", RIGHT),
    ],
}


@pytest.mark.parametrize(
    "text, truth, right",
    [
        pytest.param(*pair, id=f"{kind}-{i}")
        for kind, pairs in PAIRS.items()
        for i, pair in enumerate(pairs)
    ],
)
def test_verdicts_are_the_mathematical_ones(text, truth, right):
    assert verify(text, truth) is right


def test_right_and_wrong_pairs_are_balanced():
    rights = [right for pairs in PAIRS.values() for *_, right in pairs]
    assert len(rights) > 200 and 0.4 < sum(rights) / len(rights) < 0.62
