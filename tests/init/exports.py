"""Exports as people have them, in six languages. All of it is made up."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Export:
    """An export: how the file is written, and the names and forms of its columns in order."""

    encoding: str
    delimiter: str
    # In this order: id, name, mail, phone, postcode, amount, day, answer, tags.
    names: tuple[str, ...]
    id_format: str
    amount: tuple[str, str, str]  # decimal sign, sign between thousands, and the pattern around the number
    dates: str
    words: tuple[str, str]  # yes and no
    null: str


EXPORTS = {
    "en": Export(
        "utf-8", ",",
        ("Customer ID", "Full name", "Email", "Phone", "ZIP code",
         "Revenue", "Signed up", "Newsletter", "Tags"),
        "C{:07}", (".", ",", "${}"), "%m/%d/%Y", ("Yes", "no"), "N/A",
    ),
    "de": Export(
        "cp1252", ";",
        ("Kunden-Nr", "Vorname", "E-Mail", "Telefon", "PLZ",
         "Umsatz (€)", "Kunde seit", "Rundbrief für", "Stichwörter"),
        "K{:06}", (",", ".", "{} €"), "%d.%m.%Y", ("Ja", "nein"), "k.A.",
    ),
    "fr": Export(
        "cp1252", ";",
        ("id_client", "prénom", "courriel", "téléphone", "code_postal",
         "chiffre", "date d'arrivée", "abonné", "mots"),
        "FR-{:05}", (",", "\u00a0", "{} €"), "%d/%m/%Y", ("oui", "non"), "non renseigné",
    ),
    "es": Export(
        "utf-8", "|",
        ("numero_cliente", "Apellidos", "correo", "teléfono", "código postal",
         "importe", "alta", "boletín", "marcas"),
        "{:08}", (",", ".", "{} €"), "%d-%m-%Y", ("Sí", "No"), "sin datos",
    ),
    "pt": Export(
        "utf-16", "\t",
        ("código", "nome completo", "e-mail", "celular", "CEP",
         "valor", "cadastro", "boletim", "marcas"),
        "cli{:06}", (",", ".", "R$ {}"), "%d/%m/%Y", ("Sim", "Não"), "sem dados",
    ),
    "ja": Export(
        "cp932", ",",
        ("会員番号", "氏名", "メールアドレス", "電話番号", "郵便番号",
         "売上金額", "登録日", "配信", "タグ"),
        "会{:06}", (".", ",", "{}円"), "%Y年%m月%d日", ("はい", "いいえ"), "不明",
    ),
}  # fmt: skip


def row_values(export: Export, number: int, chance: random.Random) -> tuple[str, ...]:
    """The fields of a row; `number` is the user's."""
    decimal, thousands, around = export.amount
    whole, cents = chance.randint(0, 99_999), chance.randint(1, 99)
    amount = f"{whole:,}.{cents:02}".translate(str.maketrans(",.", thousands + decimal))
    day = date(2019, 1, 1) + timedelta(days=chance.randint(0, 1800))
    tags = chance.sample(["vip", "beta", "new", "old"], chance.randint(0, 3))
    return (
        export.id_format.format(number),
        f"Name {number}",
        f"p{number}@example.com",
        f"+49 170 {number + 1_000_000}",
        f"{(number * 7919) % 90_000 + 10_000}",
        chance.choices([around.format(amount), export.null], [20, 1])[0],
        day.strftime(export.dates),
        chance.choice([*export.words, ""]),
        "; ".join(tags) if export.delimiter != ";" else ", ".join(tags),
    )


def export_bytes(export: Export, rows: int = 200) -> bytes:
    """The file: its header and `rows` rows, of users 1 and up."""
    chance = random.Random(7)
    lines = [export.names, *(row_values(export, number, chance) for number in range(1, rows + 1))]

    def field(text: str) -> str:
        return f'"{text}"' if export.delimiter in text else text

    return "".join(export.delimiter.join(map(field, line)) + "\r\n" for line in lines).encode(export.encoding)
