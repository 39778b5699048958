#!/usr/bin/env python3
"""Makes the documents in this folder that the tests read.

Needs LibreOffice (writer, calc, impress), poppler-utils, and from PyPI: reportlab python-docx openpyxl python-pptx pikepdf.
Run it in an empty folder and copy what changed: programs write dates into their files.
"""

import datetime
import shutil
import subprocess
from pathlib import Path

import docx
import openpyxl
import pikepdf
import pptx
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen import canvas

LINES = [
    "The boiler in the cellar was serviced in March.",
    "Grüße aus Zürich & Łódź <nothing else>",
    "A naïve façade, and a\u00a0tab: before\tafter.",
]
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"


def office(file, *kinds):
    """What LibreOffice makes of a file."""
    for kind in kinds:
        subprocess.run(["soffice", "--headless", "--convert-to", kind, "--outdir", "out", file], check=True, capture_output=True)
        made = Path("out") / (Path(file).stem + "." + kind)
        shutil.move(made, f"libreoffice.{kind}")


def word():
    document = docx.Document()
    for line in LINES:
        document.add_paragraph(line)
    table = document.add_table(rows=2, cols=2)
    for row, cells in zip(table.rows, [("Bread", "3.20"), ("Milk", "1.10")]):
        for cell, text in zip(row.cells, cells):
            cell.text = text
    document.save("python-docx.docx")
    office("python-docx.docx", "docx", "odt", "doc", "pdf")

    document = docx.Document()
    paragraph = document.add_paragraph("We meet on ")
    change = 'w:id="1" w:author="A" w:date="2026-03-14T00:00:00Z"'
    paragraph._p.append(parse_xml(f"<w:del {nsdecls('w')} {change}><w:r><w:delText>Thursday</w:delText></w:r></w:del>"))
    paragraph._p.append(parse_xml(f"<w:ins {nsdecls('w')} {change}><w:r><w:t>Friday</w:t></w:r></w:ins>"))
    document.save("tracked.docx")


def sheet():
    book = openpyxl.Workbook()
    page = book.active
    page.title = "Shopping"
    page.append(["Item", "Price", "Bought"])
    page.append(["Bread", 3.2, datetime.date(2026, 3, 14)])
    page.append([])
    page.append(["Sum", "=SUM(B2:B2)"])
    other = book.create_sheet("Second sheet")
    other["C3"] = LINES[1]
    book.save("openpyxl.xlsx")
    office("openpyxl.xlsx", "xlsx", "xls", "ods")


def slides():
    deck = pptx.Presentation()
    for title, line in zip(["First", "Second", "Third"], LINES):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = line
    deck.save("deck.pptx")
    office("deck.pptx", "odp", "pptx")


def pdf():
    pdfmetrics.registerFont(TTFont("DejaVu", FONT))
    page = canvas.Canvas("reportlab.pdf", pagesize=A4)
    page.setFont("DejaVu", 12)
    for number, line in enumerate(LINES):
        page.drawString(72, 760 - 20 * number, line)
    page.save()
    book = canvas.Canvas("long.pdf", pagesize=A4, pageCompression=1)
    for number in range(1, 61):
        for row in range(45):
            text = f"Page {number} of the ledger, line {row}: paid to the baker for bread and rolls" if row else f"Page {number} of the ledger"
            book.drawString(40, 800 - 17 * row, text)
        book.showPage()
    book.save()
    # A scan: a page that is a picture.
    subprocess.run(["pdftoppm", "-r", "20", "-png", "reportlab.pdf", "scan"], check=True)
    scan = canvas.Canvas("scan.pdf", pagesize=A4)
    scan.drawImage(next(str(file) for file in Path(".").glob("scan*.png")), 0, 0)
    scan.save()
    with pikepdf.open("reportlab.pdf") as file:
        file.save("locked.pdf", encryption=pikepdf.Encryption(user="secret", owner="secret", R=6))
        file.save("printable.pdf", encryption=pikepdf.Encryption(user="", owner="secret", R=4))


if __name__ == "__main__":
    word(), sheet(), slides(), pdf()
