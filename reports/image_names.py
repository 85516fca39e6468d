"""What a result calls the images that it is about."""

from reports.language import Words
from reports.source import SourceInstance, SourceStudy


def image_in_words(source: SourceStudy, instance: SourceInstance, words: Words) -> str:
    """`Image 2 (DX, LL)`: the number is the place in the study as it was read."""
    number = source.instances.index(instance) + 1
    name = (words.image if instance.is_image else words.other_object).format(number=number)
    facts = ", ".join(fact for fact in (instance.modality, instance.view_position) if fact)
    return f"{name} ({facts})" if facts else name
